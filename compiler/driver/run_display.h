// Shows a run while it goes on: live on a terminal, else as lines, or as JSON events. Used by the process that executes it
// and by watchers.
#pragma once

#include <string>

#include "compiler/driver/terminal.h"
#include "runtime/engine.h"
#include "runtime/status_printer.h"

namespace jobc {

class RunDisplay : public RunObserver {
 public:
  /// `live`: redrawn in place on stderr.
  RunDisplay(Terminal& terminal, bool json, bool live);

  void OnEvent(const RunEvent& event) override;
  void OnFailure(const FailureReport& report) override;
  void OnBatchEnd() override;
  void OnTick(const RunProgress& progress) override;
  /// The last picture and the closing line.
  void End(const RunProgress& progress);

 private:
  Terminal& terminal_;
  bool json_;
  bool live_;
  PrinterOptions options_;
  LiveDisplay display_;
  std::string lines_;  ///< for stderr, written at the end of the batch
};

}  // namespace jobc
