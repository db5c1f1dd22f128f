// The report of a run: one HTML page that needs nothing else, neither a network nor a server, and may be mailed. What people
// need to read stands in it as HTML; a script draws the graph, the timeline and the table of instances from the data beside it.
// A Content-Security-Policy in the page allows exactly its own style and script. Pure over a RunReader.
#pragma once

#include <cstddef>
#include <string>

#include "runtime/run_reader.h"

namespace jobc {

struct RunReportOptions {
  int64_t when_ms = 0;            ///< wall clock, for a run that goes on; 0: now
  size_t most_rows = 20'000;      ///< instances in timeline and table; of more, failed ones first, then the longest
  size_t most_failures = 100;     ///< shown with the last lines of their stderr
  size_t most_graph_jobs = 300;   ///< a graph of more declared jobs is not drawn
};

/// jobc.report/1: the data of the page as JSON. Times in milliseconds after the run was created, -1: none.
std::string RunReportJson(const RunReader& run, const RunReportOptions& options);
std::string RunReportHtml(const RunReader& run, const RunReportOptions& options);

}  // namespace jobc
