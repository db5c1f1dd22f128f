// Temporary directories and small files for tests.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "runtime/process/os.h"

namespace jobc::testing {

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/jobc-test-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TempDir() { (void)process::RemoveTree(path_).ok(); }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void Write(const std::string& name, const std::string& text) const {
    if (size_t slash = name.rfind('/'); slash != std::string::npos) {
      (void)process::MakeDirectories(path_ + "/" + name.substr(0, slash)).ok();
    }
    std::ofstream(path_ + "/" + name) << text;
  }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

inline bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

}  // namespace jobc::testing
