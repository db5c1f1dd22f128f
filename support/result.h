// Result<T>: how a function says that the world failed (a file, a process, a peer). Faults in a .job file are
// Diagnostics, failed attempts are values, bugs are JOBC_CHECK; none of those is ever an Error.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "support/check.h"

namespace jobc {

/// What failed, in words for a person: lower case, no final period. `code` is an errno value where there is one, else 0.
struct [[nodiscard]] Error {
  std::string message;
  int code = 0;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { JOBC_CHECK(ok()); return *std::get_if<0>(&state_); }
  const T& value() const& { JOBC_CHECK(ok()); return *std::get_if<0>(&state_); }
  T&& value() && { JOBC_CHECK(ok()); return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { JOBC_CHECK(!ok()); return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { JOBC_CHECK(error_); return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace jobc
