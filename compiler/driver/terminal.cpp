#include "compiler/driver/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace jobc {
namespace {

constexpr size_t kBufferBytes = size_t{64} << 10;

/// 0, or the errno that ended the writing.
int WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      // Another process that shares the descriptor made it non-blocking.
      pollfd wait = {fd, POLLOUT, 0};
      poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

std::string_view Environment(const char* name) {
  const char* const value = getenv(name);
  return value == nullptr ? std::string_view() : value;
}

}  // namespace

Terminal::Terminal(int out_fd, int err_fd)
    : out_fd_(out_fd),
      err_fd_(err_fd),
      out_is_terminal_(isatty(out_fd) != 0),
      err_is_terminal_(isatty(err_fd) != 0),
      color_allowed_(Environment("NO_COLOR").empty() && Environment("TERM") != "dumb") {}

Terminal::~Terminal() { Flush(); }

bool Terminal::UseColor(bool is_terminal) const {
  switch (color_) {
    case ColorChoice::Auto: return is_terminal && color_allowed_;
    case ColorChoice::Always: return true;
    case ColorChoice::Never: return false;
  }
  return false;
}

void Terminal::Out(std::string_view text) {
  if (!out_open_ || out_error_ != 0) return;
  buffer_ += text;
  if (buffer_.size() >= kBufferBytes) Flush();
}

void Terminal::Flush() {
  if (buffer_.empty()) return;
  const int error = WriteAll(out_fd_, buffer_);
  buffer_.clear();
  if (error == EPIPE) {
    out_open_ = false;
  } else if (error != 0 && out_error_ == 0) {
    out_error_ = error;
  }
}

void Terminal::Err(std::string_view text) {
  Flush();
  // Where not even an error can be shown, nothing is left to be done about it.
  (void)WriteAll(err_fd_, text);
}

bool Terminal::unicode() const {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = Environment(name);
    if (value.empty()) continue;
    for (const std::string_view spelling : {"UTF-8", "utf-8", "utf8", "UTF8"}) {
      if (value.find(spelling) != std::string_view::npos) return true;
    }
    return false;
  }
  return false;
}

int Terminal::width() const {
  winsize size = {};
  return err_is_terminal_ && ioctl(err_fd_, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

int Terminal::height() const {
  winsize size = {};
  return err_is_terminal_ && ioctl(err_fd_, TIOCGWINSZ, &size) == 0 ? size.ws_row : 0;
}

}  // namespace jobc
