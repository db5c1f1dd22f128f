// Any bytes as JSON, decoded into a type that has every kind of part; what decodes must encode and decode to itself.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ir/json.h"
#include "support/check.h"

namespace {

using namespace jobc::ir;

/// Files are shown as they were written.
class PlainPaths : public EvalContext {
 public:
  bool FileText(const FileValue& file, std::string& out, Fault&) override {
    out = file.path;
    return true;
  }
};

TypeId Everything(TypeTable& types) {
  TypeId mode = types.Enum(types.AddEnum({"Mode", {"full", "incremental"}}));
  StructId record = types.AddStruct({.name = "R",
                                     .fields = {{.name = "i", .type = types.Basic(TypeKind::Int)},
                                                {.name = "d", .type = types.Optional(types.Basic(TypeKind::Duration))},
                                                {.name = "b", .type = types.Optional(types.Basic(TypeKind::Bytes))},
                                                {.name = "f", .type = types.Optional(types.Basic(TypeKind::File))},
                                                {.name = "m", .type = types.Optional(types.Map(mode, types.Basic(TypeKind::Float)))},
                                                {.name = "n", .type = types.Optional(types.Map(types.Basic(TypeKind::Int), types.Basic(TypeKind::String)))},
                                                {.name = "j", .type = types.Basic(TypeKind::Json), .fallback = {}}}});
  return types.Map(types.Basic(TypeKind::String), types.List(types.Struct(record)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Program program;
  TypeId type = Everything(program.types);
  PlainPaths context;
  Evaluator evaluator(program, 1'000'000);
  std::string_view text(reinterpret_cast<const char*>(data), size);
  static_cast<void>(DecodeParamText(text, type, evaluator, context).ok());
  jobc::Result<Value> json = ParseJson(text);
  if (!json) return 0;
  JOBC_CHECK(ParseJson(JsonText(*json)).ok());
  jobc::Result<Value> value = DecodeJson(*json, type, evaluator, context);
  if (!value) return 0;
  jobc::Result<std::string> encoded = EncodeJson(*value, type, program, context);
  JOBC_CHECK(encoded.ok());
  jobc::Result<Value> again = DecodeJson(*ParseJson(*encoded), type, evaluator, context);
  JOBC_CHECK(again.ok());
  JOBC_CHECK(*EncodeJson(*again, type, program, context) == *encoded);
  return 0;
}
