// The two standard streams, and what is known about the terminal behind them. stdout carries data, stderr is for
// people. The only place that writes to either; main() makes one and passes it down. Single-threaded.
#pragma once

#include <string>
#include <string_view>

namespace jobc {

enum class ColorChoice { Auto, Always, Never };

class Terminal {
 public:
  /// Neither descriptor is closed. Auto means: colour where the stream is a terminal, TERM is not `dumb` and NO_COLOR
  /// is unset or empty (https://no-color.org).
  Terminal(int out_fd, int err_fd);
  /// Writes what is still buffered for stdout.
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void set_color(ColorChoice choice) { color_ = choice; }

  /// Buffered; written by Flush(), by Err(), and at the end.
  void Out(std::string_view text);
  void Flush();
  /// Written at once, after what was put out before it.
  void Err(std::string_view text);

  bool out_is_terminal() const { return out_is_terminal_; }
  bool err_is_terminal() const { return err_is_terminal_; }
  bool out_color() const { return UseColor(out_is_terminal_); }
  bool err_color() const { return UseColor(err_is_terminal_); }
  /// Whether LC_ALL, LC_CTYPE or LANG (the first that is set) says UTF-8: else only ASCII should be drawn.
  bool unicode() const;
  /// Of the window behind stderr, asked for anew at each call; 0 where there is none.
  int width() const;
  int height() const;

  /// The errno of the first write to stdout that failed, 0 if none did. A reader that went away (EPIPE) is no failure:
  /// what it does not read is dropped.
  int out_error() const { return out_error_; }
  /// False once the reader of stdout went away.
  bool out_open() const { return out_open_; }

 private:
  bool UseColor(bool is_terminal) const;

  int out_fd_;
  int err_fd_;
  bool out_is_terminal_;
  bool err_is_terminal_;
  bool color_allowed_;
  ColorChoice color_ = ColorChoice::Auto;
  bool out_open_ = true;
  int out_error_ = 0;
  std::string buffer_;
};

}  // namespace jobc
