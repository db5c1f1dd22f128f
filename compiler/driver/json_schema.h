// JSON Schema (2020-12) of what a file takes and gives, made from the checked model: for editors, forms and validators.
// What a refinement says becomes the keyword for it (minimum, pattern, minLength …); what JSON Schema cannot say is put
// into `$comment`, so a schema may accept more than jobc does, never less.
#pragma once

#include <string>

#include "compiler/check/model.h"

namespace jobc {

/// Of a parameter file: `-p @params.json`.
std::string ParamsSchema(const Model& model, std::string_view file_name);
/// Of what `jobc result` prints: the exports.
std::string ExportsSchema(const Model& model, std::string_view file_name);
/// Of what `jobc result RUN JOB` prints; for a scatter, an object of its instances.
std::string OutputsSchema(const Model& model, uint32_t job);
/// Of what the job itself writes to $JOB_RESULT.
std::string JobResultSchema(const Model& model, uint32_t job);

}  // namespace jobc
