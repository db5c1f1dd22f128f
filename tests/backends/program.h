// What an attempt of the conformance suite does, in words that every backend understands: as a shell script for those that
// start programs, and step by step for the virtual one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace jobc::conformance {

/// The directories an attempt has.
enum class Where : uint8_t { Output, Tmp, Stage, Secrets };

enum class Do : uint8_t {
  Out, Err,        ///< writes `text`
  Fill,            ///< writes `number` bytes of output
  Numbers,         ///< writes the numbers from 1 to `number`, odd ones to stdout, even ones to stderr, each on a line
  Touch,           ///< makes the file `text` in its output directory
  Await,           ///< waits until the file `text` is in its output directory
  Write,           ///< writes `text` to the file `name` in `where`
  Append,          ///< the same behind what is there
  Read,            ///< writes the file `name` in `where` to stdout
  Arguments,       ///< writes each argument after the program as `[…]`
  Environment,     ///< writes its environment, each variable ended by a zero byte; stands alone
  Directory,       ///< writes its working directory
  ReadInput,       ///< reads stdin to its end and writes how many bytes there were
  IgnoreTerm,      ///< from now on
  ExitOnTerm,      ///< from now on: writes `text`, ends with exit code `number`
  Hold,            ///< starts another process that opens the named pipe `text` in its output directory and ignores TERM
  Allocate,        ///< takes `number` bytes of memory, and uses them
  Forever,
  Exit,            ///< with exit code `number`
  Raise,           ///< ends by signal `number`
};

struct Step {
  Do what;
  std::string text{};
  int64_t number = 0;
  Where where = Where::Output;
  std::string name{};
};

/// Ends with exit code 0 after its last step.
class Program {
 public:
  std::vector<Step> steps;
  std::vector<std::string> arguments;  ///< behind the program
  std::string path;                    ///< instead of `steps`: a program that cannot be started

  Program& Add(Step step) {
    steps.push_back(std::move(step));
    return *this;
  }
  Program& Out(std::string text) { return Add({Do::Out, std::move(text)}); }
  Program& Err(std::string text) { return Add({Do::Err, std::move(text)}); }
  Program& Fill(int64_t bytes) { return Add({Do::Fill, "", bytes}); }
  Program& Numbers(int64_t last) { return Add({Do::Numbers, "", last}); }
  Program& Touch(std::string name) { return Add({Do::Touch, std::move(name)}); }
  Program& Await(std::string name) { return Add({Do::Await, std::move(name)}); }
  Program& Write(Where where, std::string name, std::string text) { return Add({Do::Write, std::move(text), 0, where, std::move(name)}); }
  Program& Append(Where where, std::string name, std::string text) { return Add({Do::Append, std::move(text), 0, where, std::move(name)}); }
  Program& Read(Where where, std::string name) { return Add({Do::Read, "", 0, where, std::move(name)}); }
  Program& IgnoreTerm() { return Add({Do::IgnoreTerm}); }
  Program& ExitOnTerm(int64_t code, std::string text = "") { return Add({Do::ExitOnTerm, std::move(text), code}); }
  Program& Hold(std::string pipe) { return Add({Do::Hold, std::move(pipe)}); }
  Program& Allocate(int64_t bytes) { return Add({Do::Allocate, "", bytes}); }
  Program& Forever() { return Add({Do::Forever}); }
  Program& Exit(int64_t code) { return Add({Do::Exit, "", code}); }
  Program& Raise(int64_t signal) { return Add({Do::Raise, "", signal}); }
  Program& Just(Do what) { return Add({what}); }
};

/// The words that start `program` where there is a POSIX shell. `seen(where)` is a directory as the attempt sees it.
template <typename Seen>
std::vector<std::string> ShellCommand(const Program& program, const Seen& seen);

/// What Do::Fill repeats, without its line break. Long, as engines keep each line by itself.
inline std::string FillLine() {
  std::string out;
  while (out.size() < 1000) out += "0123456789abcdefghijklmnopqrstuvwxyz";
  return out;
}

/// `text` as one word of a shell script.
inline std::string Quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text) {
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return out + "'";
}

/// A `printf` of the shell that writes `text`, whatever bytes it has.
inline std::string Printf(std::string_view text) {
  std::string out = "printf '";
  for (unsigned char c : text) {
    const char digits[] = {'\\', static_cast<char>('0' + (c >> 6)), static_cast<char>('0' + ((c >> 3) & 7)), static_cast<char>('0' + (c & 7)), 0};
    out += digits;
  }
  return out + "'";
}

template <typename Seen>
std::vector<std::string> ShellCommand(const Program& program, const Seen& seen) {
  std::vector<std::string> argv;
  if (!program.path.empty()) {
    argv = {program.path};
  } else if (program.steps.size() == 1 && program.steps[0].what == Do::Environment) {
    argv = {"/usr/bin/env", "-0"};
  } else {
    std::string script;
    for (const Step& step : program.steps) {
      const std::string file = step.name.empty() ? "" : Quoted(seen(step.where) + "/" + step.name);
      const std::string number = std::to_string(step.number);
      switch (step.what) {
        case Do::Out: script += Printf(step.text) + "\n"; break;
        case Do::Err: script += Printf(step.text) + " >&2\n"; break;
        case Do::Fill: script += "yes " + FillLine() + " | head -c " + number + "\n"; break;
        case Do::Numbers: script += "i=1; while [ $i -le " + number + " ]; do echo $i; i=$((i+1)); echo $i >&2; i=$((i+1)); done\n"; break;
        case Do::Touch: script += ": > " + Quoted(step.text) + "\n"; break;
        case Do::Await: script += "until [ -e " + Quoted(step.text) + " ]; do sleep 0.02; done\n"; break;
        case Do::Write: script += Printf(step.text) + " > " + file + "\n"; break;
        case Do::Append: script += Printf(step.text) + " >> " + file + "\n"; break;
        case Do::Read: script += "cat " + file + "\n"; break;
        case Do::Arguments: script += "for word; do printf '[%s]' \"$word\"; done\n"; break;
        case Do::Environment: break;  // stands alone
        case Do::Directory: script += "pwd -P\n"; break;
        case Do::ReadInput: script += "wc -c\n"; break;
        case Do::IgnoreTerm: script += "trap '' TERM\n"; break;
        case Do::ExitOnTerm: script += "trap " + Quoted(Printf(step.text) + "; exit " + number) + " TERM\n"; break;
        case Do::Hold: script += "(trap '' TERM; exec > " + Quoted(step.text) + " 2>&1; while :; do sleep 0.05; done) &\n"; break;
        // Doubles a text until it has so many bytes: no program beside the shell is needed.
        case Do::Allocate: script += "x=0123456789abcdef; while [ ${#x} -lt " + number + " ]; do x=$x$x; done\n"; break;
        case Do::Forever: script += "while :; do sleep 0.05; done\n"; break;
        case Do::Exit: script += "exit " + number + "\n"; break;
        case Do::Raise: script += "kill -" + number + " $$\n"; break;
      }
    }
    argv = {"/bin/sh", "-c", script, "program"};
  }
  argv.insert(argv.end(), program.arguments.begin(), program.arguments.end());
  return argv;
}

}  // namespace jobc::conformance
