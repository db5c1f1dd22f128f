// `mounts` of container backends: named directories and volumes that attempts see beside their own places. What the
// language writes shortly becomes one form (ir/mounts.h), so that backends read nothing else; mounts that cannot stand
// beside each other are E704 here where all of them are constant, else by the plan stage.
#include <fmt/format.h>

#include "compiler/check/declarations.h"
#include "ir/mounts.h"

namespace jobc::check {
namespace {

constexpr std::string_view kFields[] = {"source", "volume", "target", "read_only", "create"};

struct Written {
  Span name, source, target;
};

class Mounts {
 public:
  Mounts(Checker& c, const Scope& scope) : c_(c), scope_(scope), file_(*scope.unit->file) {}

  ir::ExprId Check(ast::ExprId id, ir::BackendKind kind) {
    const ast::Expr& e = file_[id];
    if (e.kind == ast::ExprKind::Error) return {};
    if (e.kind != ast::ExprKind::Map) {
      c_.diags.Emit(e.span, diag::NotA, "mounts by name", "another expression")
          .Label("which directories do the jobs see?")
          .AddHelp("write for example:  mounts = { data = { source = \"/srv/data\", target = \"/data\" } }");
      return {};
    }
    std::vector<Typed> all;
    std::vector<Written> written;
    bool failed = false;
    for (uint32_t i = 0; i < e.entries.size; ++i) {
      const ast::Entry& entry = file_.entries[e.entries.begin + i];
      const std::optional<std::string> name = entry.splice ? std::nullopt : PlainText(file_, entry.key);
      if (!name) {
        if (entry.key.valid() && file_[entry.key].kind != ast::ExprKind::Error) {
          c_.diags.Emit(file_[entry.key].span, diag::NotA, "the name of a mount", "another expression").Label("a name, or a plain string");
        }
        failed = true;
        continue;
      }
      bool twice = false;
      for (size_t k = 0; k < names_.size(); ++k) {
        if (names_[k] != *name) continue;
        c_.diags.Emit(file_[entry.key].span, diag::GivenTwice, fmt::format("the mount `{}`", *name)).Label("second one").Secondary(written[k].name, "first one").AddHelp("keep one of them");
        twice = failed = true;
      }
      if (twice) continue;
      Written places;
      places.name = file_[entry.key].span;
      std::optional<Typed> mount = One(*name, entry.value, places);
      if (!mount) {
        failed = true;
        continue;
      }
      names_.push_back(*name);
      written.push_back(places);
      all.push_back(Text(*name, places.name));
      all.push_back(*mount);
    }
    if (failed) return {};
    const Typed option = Make(ir::Op::Map, c_.types.Map(String(), Json()), all, e.span);
    if (!c_.exprs.IsConst(option.expr)) return option.expr;
    // The value is sorted by name, the text need not be.
    const std::vector<ir::Mount> mounts = ir::MountsOf(c_.exprs.ConstValue(option.expr));
    const auto at = [&](size_t mount) -> const Written& {
      for (size_t k = 0; k < names_.size(); ++k) {
        if (names_[k] == mounts[mount].name) return written[k];
      }
      return written.front();
    };
    for (const ir::MountFault& fault : ir::FaultsOf(mounts, kind)) {
      const Written& own = at(fault.mount);
      const Span span = fault.part == ir::MountPart::Name ? own.name : fault.part == ir::MountPart::Source ? own.source : own.target;
      auto& d = c_.diags.Emit(span, diag::BadMount, fmt::format("mount `{}`", mounts[fault.mount].name), fault.message).Label(fault.label);
      if (fault.other != SIZE_MAX) d.Secondary(at(fault.other).target, fmt::format("`{}`", mounts[fault.other].name));
      d.AddHelp(fault.help);
    }
    return option.expr;
  }

 private:
  ir::TypeId String() { return c_.types.Basic(ir::TypeKind::String); }
  ir::TypeId Json() { return c_.types.Basic(ir::TypeKind::Json); }
  Typed Text(std::string text, Span span) { return {c_.exprs.Constant(String(), ir::Value::String(std::move(text)), c_.PlaceOf(span)), String()}; }
  Typed Flag(bool value, Span span) {
    const ir::TypeId type = c_.types.Basic(ir::TypeKind::Bool);
    return {c_.exprs.Constant(type, ir::Value::Bool(value), c_.PlaceOf(span)), type};
  }

  Typed Make(ir::Op op, ir::TypeId type, const std::vector<Typed>& args, Span span) {
    Typed out;
    out.type = type;
    std::vector<ir::ExprId> ids;
    for (const Typed& arg : args) {
      ids.push_back(arg.expr);
      if (arg.phase > out.phase) {
        out.phase = arg.phase;
        out.leaf = arg.leaf;
      }
    }
    out.expr = c_.exprs.Add(op, type, 0, 0, ids.data(), ids.size(), c_.PlaceOf(span));
    return c_.Fold(out, span);
  }

  /// `"/srv/data"`, an expression that gives such a text, or `{ source = …, target = …, read_only = … }`.
  std::optional<Typed> One(const std::string& name, ast::ExprId id, Written& places) {
    if (!id.valid()) return std::nullopt;
    const ast::Expr& e = file_[id];
    places.source = places.target = e.span;
    std::optional<Typed> source, target, read_only, create;
    bool volume = false;
    if (e.kind != ast::ExprKind::Map) {
      source = Value(id, name, "source", String());
      if (!source) return std::nullopt;
    } else {
      Span first_source;
      bool failed = false;
      for (uint32_t i = 0; i < e.entries.size; ++i) {
        const ast::Entry& entry = file_.entries[e.entries.begin + i];
        const std::optional<std::string> field = entry.splice ? std::nullopt : PlainText(file_, entry.key);
        const Span key = entry.key.valid() ? file_[entry.key].span : entry.span;
        if (!field || std::find(std::begin(kFields), std::end(kFields), *field) == std::end(kFields)) {
          auto& d = c_.diags.Emit(key, diag::UnknownField, "mounts", field ? *field : std::string(c_.sources.Text(key))).Label("not a part of a mount");
          const std::string_view like = field ? DidYouMean(*field, {"source", "volume", "target", "read_only", "create"}) : std::string_view();
          if (!like.empty()) {
            d.AddHelp(fmt::format("did you mean `{}`?", like), {{key, std::string(like)}});
          } else if (field && (*field == "write" || *field == "rw" || *field == "writable")) {
            d.AddHelp("write:  read_only = false");
          } else {
            d.Note("a mount has `source` or `volume`, `target`, `read_only`, and `create` for a volume");
          }
          failed = true;
          continue;
        }
        const bool is_source = *field == "source" || *field == "volume";
        if (is_source && first_source.valid()) {
          c_.diags.Emit(key, diag::TwoActions, "source", "volume").Label("a mount is one of the two").Secondary(first_source, "first one").AddHelp("keep one of the two");
          failed = true;
          continue;
        }
        std::optional<Typed> value = Value(entry.value, name, *field, *field == "read_only" || *field == "create" ? c_.types.Basic(ir::TypeKind::Bool) : String());
        failed = failed || !value;
        if (is_source) {
          first_source = key;
          if (!value) continue;
          source = value;
          volume = *field == "volume";
          places.source = file_[entry.value].span;
        } else if (*field == "target") {
          target = value;
          if (value) places.target = file_[entry.value].span;
        } else if (*field == "create") {
          create = value;
        } else {
          read_only = value;
        }
      }
      if (!first_source.valid() && !failed) {
        c_.diags.Emit(places.name, diag::MissingAttribute, fmt::format("the mount `{}`", name), "`source`")
            .Label("which directory is it?")
            .AddHelp("add:  source = \"/srv/data\"")
            .AddHelp("or name a volume of the engine:  volume = \"pip-cache\"");
        return std::nullopt;
      }
      if (failed) return std::nullopt;
    }
    if (!target) target = Text(ir::DefaultTarget(name), places.target);
    if (!read_only) read_only = Flag(true, e.span);
    std::vector<Typed> fields;
    const auto add = [&](std::string_view key, const Typed& value) {
      fields.push_back(Text(std::string(key), e.span));
      fields.push_back(Make(ir::Op::ToJson, Json(), {value}, e.span));
    };
    if (create) add("create", *create);
    add("read_only", *read_only);
    add("source", *source);
    add("target", *target);
    add("type", Text(volume ? "volume" : "bind", e.span));
    return Make(ir::Op::ToJson, Json(), {Make(ir::Op::Map, c_.types.Map(String(), Json()), fields, e.span)}, e.span);
  }

  std::optional<Typed> Value(ast::ExprId id, const std::string& mount, std::string_view field, ir::TypeId type) {
    if (!id.valid()) return std::nullopt;
    Scope scope = scope_;
    const std::string place = fmt::format("`{}` of the mount `{}`", field, mount);
    scope.place = place;
    const Typed typed = c_.CheckExpr(id, scope, type);
    if (c_.exprs[typed.expr].op == ir::Op::Error) return std::nullopt;
    return typed;
  }

  Checker& c_;
  const Scope& scope_;
  const ast::File& file_;
  std::vector<std::string> names_;
};

}  // namespace

ir::ExprId CheckMounts(Checker& c, ast::ExprId value, const Scope& scope, ir::BackendKind kind) { return Mounts(c, scope).Check(value, kind); }

}  // namespace jobc::check
