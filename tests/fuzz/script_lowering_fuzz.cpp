// Fuzzes the script scanners: no text may crash or hang them, and every hole is either written into the text or refused.
// The first byte chooses the interpreter, the second the kinds of the holes, the rest is the script; a byte 0xFF is a hole.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "compiler/script/script.h"
#include "support/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jobc::script;
  if (size < 2) return 0;
  Template source;
  source.interpreter = static_cast<Interpreter>(data[0] % 4);
  uint32_t kinds = data[1];
  for (size_t i = 2; i < size; ++i) {
    if (data[i] != 0xFF) {
      source.text += static_cast<char>(data[i]);
      continue;
    }
    Hole hole;
    hole.kind = static_cast<HoleKind>(kinds % 8);
    hole.spliced = hole.kind == HoleKind::List || kinds % 3 == 0;
    hole.optional = kinds % 5 == 0;
    hole.offset = static_cast<uint32_t>(source.text.size());
    hole.source = "x" + std::to_string(source.holes.size() % 4);
    source.holes.push_back(hole);
    kinds = kinds * 5 + 1;
  }
  Lowered lowered = Lower(source);
  std::vector<bool> refused(source.holes.size());
  for (const Finding& finding : lowered.findings) {
    JOBC_CHECK(finding.hole < source.holes.size());
    if (finding.code != Code::W491) refused[finding.hole] = true;
  }
  JOBC_CHECK(lowered.bindings.size() == source.holes.size());
  for (size_t i = 0; i < source.holes.size(); ++i) {
    JOBC_CHECK(refused[i] || lowered.text.find(lowered.bindings[i].name) != std::string::npos);
  }
  for (uint32_t at = 0; at <= lowered.text.size(); ++at) JOBC_CHECK(lowered.OriginalOffset(at) <= source.text.size());
  jobc::Result<Lowered> again = DecodeBindings(source.interpreter, lowered.text, EncodeBindings(lowered));
  JOBC_CHECK(again.ok());
  std::vector<HoleValue> values(source.holes.size(), HoleValue{false, IsShell(source.interpreter) ? "v" : "\"v\"", {"a", "b"}});
  JOBC_CHECK(Bind({&*again, &values}, "/private").ok());
  return 0;
}
