#include "ir/builtins.h"

#include <array>

#include "support/check.h"

namespace jobc::ir {
namespace {

struct Row {
  std::string_view name, signatures, doc;
};

constexpr Row kRows[] = {
#define BUILTIN(name, signatures, doc) {#name, signatures, doc},
#include "ir/builtins.def"
#undef BUILTIN
};

/// Parses the notation of builtins.def; a mistake there is a bug found by the first use (and by its test).
class SignatureParser {
 public:
  explicit SignatureParser(std::string_view text) : text_(text) {}

  std::vector<Signature> All() {
    std::vector<Signature> all;
    for (;;) {
      SkipBlanks();
      size_t begin = at_;
      Signature signature;
      current_ = &signature;
      Expect("(");
      while (!Accept(")")) {
        if (!signature.params.empty()) Expect(",");
        signature.params.push_back(Parse());
        if (Accept("...")) signature.variadic = true;
      }
      Expect("->");
      signature.result = Parse();
      signature.text = std::string(text_.substr(begin, at_ - begin));
      all.push_back(std::move(signature));
      SkipBlanks();
      if (at_ == text_.size()) return all;
      Expect(";");
    }
  }

 private:
  void SkipBlanks() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  bool Accept(std::string_view token) {
    size_t before = at_;
    SkipBlanks();
    if (text_.substr(at_, token.size()) == token) {
      at_ += token.size();
      return true;
    }
    at_ = before;
    return false;
  }

  void Expect(std::string_view token) { JOBC_CHECK(Accept(token)); }

  SigType Variable(std::string_view name, Constraint constraint) {
    SigType type{.kind = SigType::Kind::Var};
    std::vector<SigVariable>& variables = current_->variables;
    size_t i = 0;
    while (i < variables.size() && (variables[i].name != name || constraint == Constraint::Text)) ++i;
    if (i == variables.size()) variables.push_back({std::string(name), constraint});
    type.var = static_cast<uint8_t>(i);
    return type;
  }

  SigType Parse() {
    SkipBlanks();
    size_t begin = at_;
    while (at_ < text_.size() && ((text_[at_] >= 'a' && text_[at_] <= 'z') || (text_[at_] >= 'A' && text_[at_] <= 'Z'))) ++at_;
    std::string_view word = text_.substr(begin, at_ - begin);
    SigType type;
    auto composite = [&](SigType::Kind kind, int count) {
      type.kind = kind;
      Expect("<");
      for (int i = 0; i < count; ++i) {
        if (i > 0) Expect(",");
        type.args.push_back(Parse());
      }
      Expect(">");
    };
    if (word == "List") composite(SigType::Kind::List, 1);
    else if (word == "Map") composite(SigType::Kind::Map, 2);
    else if (word == "Pair") composite(SigType::Kind::Pair, 2);
    else if (word == "Type") type.kind = SigType::Kind::Type;
    else if (word == "Text") type = Variable(word, Constraint::Text);
    else if (word == "Num") type = Variable(word, Constraint::Num);
    else if (word == "Ord") type = Variable(word, Constraint::Ord);
    else if (word.size() == 1) type = Variable(word, Constraint::Any);
    else type.basic = Basic(word);
    if (Accept("?")) {
      SigType optional{.kind = SigType::Kind::Optional};
      optional.args.push_back(std::move(type));
      return optional;
    }
    return type;
  }

  static TypeKind Basic(std::string_view word) {
    constexpr std::pair<std::string_view, TypeKind> kNames[] = {
        {"Bool", TypeKind::Bool}, {"Int", TypeKind::Int}, {"Float", TypeKind::Float}, {"String", TypeKind::String},
        {"Duration", TypeKind::Duration}, {"Bytes", TypeKind::Bytes}, {"File", TypeKind::File}, {"Dir", TypeKind::Dir},
        {"Json", TypeKind::Json}, {"Regex", TypeKind::Regex}, {"Range", TypeKind::Range}, {"Args", TypeKind::Args}};
    for (const auto& [name, kind] : kNames) {
      if (name == word) return kind;
    }
    JOBC_UNREACHABLE();
  }

  std::string_view text_;
  size_t at_ = 0;
  Signature* current_ = nullptr;
};

const std::vector<BuiltinInfo>& Table() {
  static const std::vector<BuiltinInfo> table = [] {
    std::vector<BuiltinInfo> all;
    for (const Row& row : kRows) all.push_back({row.name, row.doc, SignatureParser(row.signatures).All()});
    return all;
  }();
  return table;
}

/// Unifies signature types with argument types. `widen`: an Int may stand for a Float.
class Unifier {
 public:
  Unifier(TypeTable& types, const Signature& signature, bool widen)
      : types_(types), signature_(signature), widen_(widen), bound_(signature.variables.size()) {}

  bool Argument(const SigType& want, TypeId have) {
    if (want.kind == SigType::Kind::Var && signature_.variables[want.var].constraint == Constraint::Text) {
      bound_[want.var] = TypeId{};  // each argument of a variadic Text is on its own
    }
    return Match(want, have, widen_);
  }

  void Bind(uint8_t var, TypeId type) { bound_[var] = type; }
  int VariableNamed(std::string_view name) const {
    for (size_t i = 0; i < signature_.variables.size(); ++i) {
      if (signature_.variables[i].name == name) return static_cast<int>(i);
    }
    return -1;
  }

  /// Invalid where a variable has no type, as in `min([])`.
  TypeId Instantiate(const SigType& type) {
    switch (type.kind) {
      case SigType::Kind::Basic: return types_.Basic(type.basic);
      case SigType::Kind::Var: return bound_[type.var].valid() ? bound_[type.var] : types_.Basic(TypeKind::Error);
      case SigType::Kind::List: return types_.List(Instantiate(type.args[0]));
      case SigType::Kind::Optional: return types_.Optional(Instantiate(type.args[0]));
      case SigType::Kind::Map: {
        TypeId key = Instantiate(type.args[0]);
        return types_.Map(key, Instantiate(type.args[1]));
      }
      case SigType::Kind::Pair: {
        TypeId first = Instantiate(type.args[0]);
        return types_.Pair(first, Instantiate(type.args[1]));
      }
      case SigType::Kind::Type: return TypeId{};
    }
    JOBC_UNREACHABLE();
  }

 private:
  bool IsError(TypeId id) const { return types_.kind(id) == TypeKind::Error; }

  /// The more specific of two types that differ only where one of them has Error parts (empty literals) or where one
  /// is the optional of the other; invalid if they do not agree.
  TypeId Join(TypeId x, TypeId y) {
    if (types_.Same(x, y) || IsError(y)) return x;
    if (IsError(x)) return y;
    TypeKind kx = types_.kind(x), ky = types_.kind(y);
    if (kx == TypeKind::Null) return types_.Optional(y);
    if (ky == TypeKind::Null) return types_.Optional(x);
    if (kx == TypeKind::Optional || ky == TypeKind::Optional) {
      TypeId joined = Join(types_.NonNull(x), types_.NonNull(y));
      return joined.valid() ? types_.Optional(joined) : joined;
    }
    if (kx != ky) return TypeId{};
    if (kx == TypeKind::List) {
      TypeId element = Join(types_[x].a, types_[y].a);
      return element.valid() ? types_.List(element) : element;
    }
    if (kx == TypeKind::Map || kx == TypeKind::Pair) {
      TypeId xb = types_[x].b, yb = types_[y].b;
      TypeId first = Join(types_[x].a, types_[y].a);
      if (!first.valid()) return first;
      TypeId second = Join(xb, yb);
      if (!second.valid()) return second;
      return kx == TypeKind::Map ? types_.Map(first, second) : types_.Pair(first, second);
    }
    return TypeId{};
  }

  bool Match(const SigType& want, TypeId have, bool direct) {
    if (IsError(have)) return true;
    TypeKind kind = types_.kind(have);
    switch (want.kind) {
      case SigType::Kind::Basic:
        return kind == want.basic || (direct && kind == TypeKind::Int && want.basic == TypeKind::Float);
      case SigType::Kind::Var: {
        Constraint constraint = signature_.variables[want.var].constraint;
        if (!Satisfies(types_, have, constraint)) return false;
        TypeId& bound = bound_[want.var];
        if (!bound.valid()) {
          bound = types_.Bare(have);
          return true;
        }
        TypeId joined = Join(bound, types_.Bare(have));
        if (!joined.valid() && direct) {
          // Int and Float arguments of one type: Float.
          TypeKind b = types_.kind(bound);
          if ((b == TypeKind::Int && kind == TypeKind::Float) || (b == TypeKind::Float && kind == TypeKind::Int)) {
            joined = types_.Basic(TypeKind::Float);
          }
        }
        if (!joined.valid() || !Satisfies(types_, joined, constraint)) return false;
        bound = joined;
        return true;
      }
      case SigType::Kind::List:
        return kind == TypeKind::List && Match(want.args[0], types_[have].a, false);
      case SigType::Kind::Map:
      case SigType::Kind::Pair: {
        if (kind != (want.kind == SigType::Kind::Map ? TypeKind::Map : TypeKind::Pair)) return false;
        TypeId second = types_[have].b;
        return Match(want.args[0], types_[have].a, false) && Match(want.args[1], second, false);
      }
      case SigType::Kind::Optional:
        if (kind == TypeKind::Null) return true;
        return Match(want.args[0], types_.NonNull(have), false);
      case SigType::Kind::Type:
        return false;
    }
    JOBC_UNREACHABLE();
  }

  TypeTable& types_;
  const Signature& signature_;
  bool widen_;
  std::vector<TypeId> bound_;
};

}  // namespace

const BuiltinInfo& InfoOf(Builtin builtin) { return Table()[static_cast<size_t>(builtin)]; }

std::optional<Builtin> BuiltinFromName(std::string_view name) {
  for (size_t i = 0; i < kBuiltinCount; ++i) {
    if (kRows[i].name == name) return static_cast<Builtin>(i);
  }
  return std::nullopt;
}

bool Satisfies(const TypeTable& types, TypeId type, Constraint constraint) {
  TypeKind kind = types.kind(type);
  if (kind == TypeKind::Error) return true;
  bool num = kind == TypeKind::Int || kind == TypeKind::Float || kind == TypeKind::Duration || kind == TypeKind::Bytes;
  switch (constraint) {
    case Constraint::Any:
      return kind != TypeKind::Secret && kind != TypeKind::Regex && kind != TypeKind::Range && kind != TypeKind::Args;
    case Constraint::Text: return types.HasText(type);
    case Constraint::Num: return num;
    case Constraint::Ord: return num || kind == TypeKind::String || kind == TypeKind::Enum || kind == TypeKind::Bool;
  }
  JOBC_UNREACHABLE();
}

SignatureMatch ResolveCall(TypeTable& types, Builtin builtin, const std::vector<TypeId>& args, int type_argument) {
  for (bool widen : {false, true}) {
    for (const Signature& signature : InfoOf(builtin).signatures) {
      size_t count = signature.params.size();
      if (signature.variadic ? args.size() < count : args.size() != count) continue;
      Unifier unifier(types, signature, widen);
      auto param = [&](size_t i) -> const SigType& { return signature.params[i < count ? i : count - 1]; };
      bool fits = true;
      for (size_t i = 0; i < args.size() && fits; ++i) {
        if (param(i).kind == SigType::Kind::Type) {
          fits = static_cast<int>(i) == type_argument;
          int t = unifier.VariableNamed("T");
          if (fits && t >= 0) unifier.Bind(static_cast<uint8_t>(t), args[i]);
        } else {
          fits = static_cast<int>(i) != type_argument && unifier.Argument(param(i), args[i]);
        }
      }
      if (!fits) continue;
      SignatureMatch match{.signature = &signature, .result = unifier.Instantiate(signature.result)};
      for (size_t i = 0; i < args.size(); ++i) {
        bool text = param(i).kind == SigType::Kind::Var &&
                    signature.variables[param(i).var].constraint == Constraint::Text;
        TypeId want = text ? TypeId{} : unifier.Instantiate(param(i));
        match.expected.push_back(want.valid() && !types.Same(want, args[i]) ? want : TypeId{});
      }
      return match;
    }
  }
  return {};
}

}  // namespace jobc::ir
