// Backends and profiles: every profile is checked, none is chosen here.
#include <algorithm>
#include <fmt/format.h>

#include "compiler/check/declarations.h"
#include "ir/mounts.h"

namespace jobc::check {
namespace {

/// A type of the option tables as a type of the program.
ir::TypeId OptionType(Checker& c, std::string_view text) {
  ir::TypeTable& t = c.types;
  ir::TypeId string = t.Basic(ir::TypeKind::String);
  if (text == "Int(1..)") {
    ir::Refinement refinement;
    refinement.kind = ir::RefinementKind::IntRange;
    refinement.int_low = 1;
    refinement.text = "1..";
    return t.Refined(t.Basic(ir::TypeKind::Int), t.AddRefinement(std::move(refinement)));
  }
  if (text.starts_with("String(re\"")) {
    ir::Refinement refinement;
    refinement.kind = ir::RefinementKind::Pattern;
    refinement.pattern = std::string(text.substr(10, text.size() - 12));
    refinement.text = std::string(text.substr(7, text.size() - 8));
    return t.Refined(string, t.AddRefinement(std::move(refinement)));
  }
  if (text == "Bool") return t.Basic(ir::TypeKind::Bool);
  if (text == "Duration") return t.Basic(ir::TypeKind::Duration);
  if (text == "Bytes") return t.Basic(ir::TypeKind::Bytes);
  if (text == "List<String>") return t.List(string);
  if (text == "Json") return t.Basic(ir::TypeKind::Json);
  return string;
}

}  // namespace

std::optional<ir::Backend> CheckBackend(Checker& c, const MergedItem& layers, const Scope& base) {
  std::vector<std::string_view> names;
  for (int i = 0; i < ir::kBackendKinds; ++i) names.push_back(ir::BackendName(static_cast<ir::BackendKind>(i)));
  std::optional<ir::Backend> result;
  for (const Placed& placed : layers.all) {
    const ast::File& file = *placed.unit()->file;
    const ast::Expr& value = file[placed.item->value];
    if (value.kind == ast::ExprKind::Error) return std::nullopt;
    ast::Name name = value.name;
    if (value.kind == ast::ExprKind::Struct && file.child(value, 0).valid()) name = file[file.child(value, 0)].name;
    if ((value.kind != ast::ExprKind::Struct && value.kind != ast::ExprKind::Name) || !name.valid()) {
      c.diags.Emit(value.span, diag::NotA, "a backend such as `process { }`", "another expression")
          .Label("where do the attempts run?")
          .AddHelp("write for example:  backend = docker { max_parallel = 4 }");
      return std::nullopt;
    }
    std::optional<ir::BackendKind> kind = ir::BackendFromName(name.text);
    if (!kind) {
      auto& d = c.diags.Emit(name.span, diag::UnknownBackend, name.text).Label("unknown");
      std::string_view like = DidYouMean(name.text, names);
      if (!like.empty()) {
        d.AddHelp(fmt::format("did you mean `{}`?", like), {{name.span, std::string(like)}});
      } else {
        std::string all;
        for (std::string_view n : names) all += (all.empty() ? "" : ", ") + std::string(n);
        d.Note("the backends are " + all);
      }
      return std::nullopt;
    }
    // The same kind merges by key, another one replaces.
    if (!result || result->kind != *kind) {
      result.emplace();
      result->kind = *kind;
    }
    if (value.kind != ast::ExprKind::Struct) continue;
    const BackendSchema& schema = SchemaOf(*kind);
    for (uint32_t i = 0; i < value.entries.size; ++i) {
      const ast::Entry& entry = file.entries[value.entries.begin + i];
      if (!entry.value.valid()) continue;
      const BackendOption* option = nullptr;
      std::vector<std::string_view> options;
      for (const BackendOption& candidate : schema.options) {
        options.push_back(candidate.name);
        if (candidate.name == entry.name.text) option = &candidate;
      }
      if (option == nullptr) {
        auto& d = c.diags.Emit(entry.name.span, diag::UnknownBackendOption, name.text, entry.name.text).Label("unknown");
        std::string_view like = DidYouMean(entry.name.text, options);
        if (!like.empty()) {
          d.AddHelp(fmt::format("did you mean `{}`?", like), {{entry.name.span, std::string(like)}});
        } else {
          std::string all;
          for (std::string_view o : options) all += (all.empty() ? "" : ", ") + std::string(o);
          d.Note(fmt::format("`{}` has {}", name.text, all));
        }
        continue;
      }
      Scope scope = base;
      scope.unit = placed.unit();
      std::string place = fmt::format("`{}`", option->name);
      scope.place = place;
      ir::ExprId expr;
      if (!option->words.empty()) {
        std::vector<std::string_view> words;
        std::string_view rest = option->words;
        while (!rest.empty()) {
          size_t blank = rest.find(' ');
          words.push_back(rest.substr(0, blank));
          rest = blank == std::string_view::npos ? std::string_view() : rest.substr(blank + 1);
        }
        std::optional<size_t> word = c.CheckWord(entry.value, scope, words, place);
        if (!word) continue;
        expr = c.exprs.Constant(c.types.Basic(ir::TypeKind::String), ir::Value::String(std::string(words[*word])));
      } else if (option->type == "Json") {
        expr = c.CheckJson(entry.value, scope).expr;
      } else if (option->type == "mounts") {
        expr = CheckMounts(c, entry.value, scope, *kind);
        if (!expr.valid()) continue;
      } else {
        expr = c.CheckExpr(entry.value, scope, OptionType(c, option->type)).expr;
        if (option->name == "workdir" && option->type == "Path" && c.exprs.IsConst(expr)) {
          const std::string fault = ir::WorkdirFault(c.exprs.ConstValue(expr).as_string());
          if (!fault.empty()) {
            c.diags.Emit(file[entry.value].span, diag::BadMount, "working directory", fmt::format("`{}` {}", c.exprs.ConstValue(expr).as_string(), fault))
                .Label("the directory in which programs start")
                .AddHelp("name a directory of the image or of a mount:  workdir = \"/mnt/data\"");
          }
        }
      }
      auto known = std::find_if(result->options.begin(), result->options.end(), [&](const ir::NamedExpr& o) { return o.name == option->name; });
      if (known != result->options.end()) {
        known->value = expr;
      } else {
        result->options.push_back({std::string(option->name), expr});
      }
    }
  }
  if (result) {
    for (const BackendOption& option : SchemaOf(result->kind).options) {
      bool given = std::any_of(result->options.begin(), result->options.end(), [&](const ir::NamedExpr& o) { return o.name == option.name; });
      if (option.required && !given) {
        const Placed& last = layers.last();
        c.diags.Emit((*last.unit()->file)[last.item->value].span, diag::MissingAttribute, fmt::format("the backend `{}`", ir::BackendName(result->kind)), fmt::format("`{}`", option.name))
            .Label("missing")
            .Note(fmt::format("{}: {}", option.name, option.doc));
      }
    }
    std::sort(result->options.begin(), result->options.end(), [](const ir::NamedExpr& x, const ir::NamedExpr& y) { return x.name < y.name; });
  }
  return result;
}

void CheckProfiles(Checker& c) {
  Declarations& d = *c.declarations;
  Span default_span;
  std::vector<std::pair<std::string_view, Span>> seen;
  llvm::StringMap<uint32_t> jobs_by_address;
  for (const ProfileInfo& info : d.profiles) {
    const ast::File& file = *info.unit->file;
    const ast::Item& item = file[info.item];
    Profile profile;
    bool named = false;
    for (const ast::Label& label : item.labels) {
      if (label.is_string || label.path.empty()) {
        c.diags.Emit(label.span, diag::MisplacedItem, fmt::format("`{}`", c.sources.Text(label.span)), "the head of `profile`").Label("expected a name");
        continue;
      }
      if (!named) {
        named = true;
        profile.name = std::string(label.path.front().text);
        profile.span = label.path.front().span;
      } else if (label.path.front().text == "default") {
        profile.is_default = true;
        if (default_span.valid()) {
          c.diags.Emit(label.span, diag::TwoDefaultProfiles).Label("second one").Secondary(default_span, "the first one").AddHelp("exactly one profile can be the default");
        }
        default_span = label.span;
      } else {
        c.diags.Emit(label.span, diag::UnknownAttribute, "a profile", label.path.front().text).Label("expected `default` or `{`");
      }
    }
    if (!named) {
      c.diags.Emit(item.keyword, diag::MissingAttribute, "`profile`", "a name").Label("write `profile NAME { … }`");
      continue;
    }
    for (const auto& [name, span] : seen) {
      if (name == profile.name) c.diags.Emit(profile.span, diag::DeclaredTwice, profile.name).Label("second declaration").Secondary(span, "first declared here").AddHelp("give one of them another name");
    }
    seen.emplace_back(c.sources.Text(profile.span), profile.span);
    if (profile.name == "none") {
      c.diags.Emit(profile.span, diag::ReservedName, profile.name).Label("`--profile none` means no profile").AddHelp("use another name");
    }

    // The root of the profile without its job blocks, pools and limits is a layer of every job's settings.
    Layers root;
    Layer layer;
    layer.unit = info.unit;
    layer.items = item.children;
    layer.kind = LayerKind::ProfileRoot;
    layer.span = item.keyword;
    root.push_back(layer);
    Merged merged = Merge(c, root, kProfile);
    // Unknown names are told once, not for every job.
    for (const MergedItem& field : merged.fields) {
      c.diags.Emit(field.last().item->keyword, diag::MisplacedItem, fmt::format("`{}: …`", field.name), "a profile").Label("a profile sets: `name = value` or `name { … }`");
    }
    for (const MergedItem& attr : merged.attrs) {
      if (const Attribute* known = FindAttribute(attr.name, kProfile)) {
        if (known->shape == Shape::Block) {
          c.diags.Emit(attr.last().item->keyword, diag::WrongShape, attr.name, fmt::format("{} {{ … }}", attr.name)).Label("this is a block");
        }
        continue;
      }
      Span span = attr.last().item->keyword;
      if (FindAttribute(attr.name, kJob) != nullptr || attr.name == "when") {
        c.diags.Emit(span, diag::NotForProfiles, attr.name).Label("a profile says where and how a job runs, never what it is").AddHelp("set it in the job, or use a parameter");
      } else {
        auto& unknown = c.diags.Emit(span, diag::UnknownAttribute, "a profile", attr.name).Label("unknown");
        std::string_view like = DidYouMean(attr.name, AttributeNames(kProfile));
        if (!like.empty()) unknown.AddHelp(fmt::format("did you mean `{}`?", like), {{span, std::string(like)}});
      }
    }
    for (const MergedBlock& block : merged.blocks) {
      if (const Attribute* known = FindAttribute(block.name, kProfile)) {
        if (known->shape == Shape::Attr) {
          c.diags.Emit(block.layers.back().span, diag::WrongShape, block.name, fmt::format("{} = …", block.name)).Label("this is an attribute");
        }
        continue;
      }
      Span span = block.layers.back().span;
      if (FindAttribute(block.name, kJob) != nullptr) {
        c.diags.Emit(span, diag::NotForProfiles, block.name).Label("a profile says where and how a job runs, never what it is").AddHelp("set it in the job, or use a parameter");
      } else {
        auto& unknown = c.diags.Emit(span, diag::UnknownAttribute, "a profile", block.name).Label("unknown");
        std::string_view like = DidYouMean(block.name, AttributeNames(kProfile));
        if (!like.empty()) unknown.AddHelp(fmt::format("did you mean `{}`?", like), {{span, std::string(like)}});
      }
    }

    profile.pools = c.model.plan.pools;
    if (const Placed* pools = merged.Attr("pools")) {
      const ast::Expr& map = file[pools->item->value];
      Scope scope;
      scope.unit = info.unit;
      scope.latest = Phase::P;
      scope.place = "slots of a pool";
      if (map.kind != ast::ExprKind::Map && map.kind != ast::ExprKind::Error) {
        c.diags.Emit(map.span, diag::NotA, "a map such as { gpu = 1 }", "something else").Label("slots by pool");
      }
      for (uint32_t i = 0; map.kind == ast::ExprKind::Map && i < map.entries.size; ++i) {
        const ast::Entry& entry = file.entries[map.entries.begin + i];
        std::optional<std::string> name = PlainText(file, entry.key);
        if (!name || !entry.value.valid()) continue;
        const ir::ExprId slots = c.CheckExpr(entry.value, scope, PositiveInt(c)).expr;
        const PoolInfo* pool = FindPool(c, *info.unit, *name, file[entry.key].span);
        if (pool != nullptr) profile.pools[pool->plan_index].slots = slots;
      }
    }
    if (const MergedBlock* limits = merged.Block("limits")) profile.limits = CheckLimits(c, limits->layers);
    if (const Placed* strategy = merged.Attr("on_error")) {
      Scope scope;
      scope.unit = info.unit;
      scope.latest = Phase::C;
      scope.place = "`on_error`";
      if (std::optional<size_t> word = c.CheckWord(strategy->item->value, scope, {"ignore", "continue", "drain", "halt"}, "a strategy")) {
        if (*word == 0) {
          c.diags.Emit(file[strategy->item->value].span, diag::IgnoreInProfile).Label("use drain, halt or continue").AddHelp("set it in the job itself");
        } else {
          profile.on_error = static_cast<ir::Strategy>(*word);
        }
      }
    }
    if (const MergedItem* backend = merged.AttrLayers("backend")) {
      Scope scope;
      scope.unit = info.unit;
      scope.latest = Phase::P;
      if (std::optional<ir::Backend> checked = CheckBackend(c, *backend, scope)) {
        for (const ir::NamedExpr& option : checked->options) {
          if (option.name == "max_parallel") profile.max_parallel = option.value;
        }
      }
    }

    // Blocks `job x { … }`.
    if (jobs_by_address.empty()) {
      for (const JobInfo& job : c.jobs) jobs_by_address[job.address] = job.index;
    }
    std::vector<Layers> job_layers(c.jobs.size());
    bool root_touches_jobs = false;
    for (const MergedItem& attr : merged.attrs) root_touches_jobs = root_touches_jobs || (attr.name != "pools" && attr.name != "on_error");
    for (const MergedBlock& block : merged.blocks) {
      if (block.name == "limits") continue;
      if (block.name != "job") {
        root_touches_jobs = true;
        continue;
      }
      const ast::Label* label = block.first->labels.empty() ? nullptr : &block.first->labels.front();
      if (label == nullptr || label->path.empty()) {
        c.diags.Emit(block.first->keyword, diag::MissingAttribute, "`job`", "a name").Label("which job?");
        continue;
      }
      std::string address;
      for (const ast::Name& part : label->path) address += (address.empty() ? "" : "/") + std::string(part.text);
      const auto found = jobs_by_address.find(address);
      if (found == jobs_by_address.end()) {
        std::vector<std::string_view> addresses;
        for (const JobInfo& job : c.jobs) addresses.push_back(job.address);
        auto& unknown = c.diags.Emit(label->span, diag::UnknownJob, c.sources.Text(label->span)).Label("not declared");
        std::string_view like = DidYouMean(address, addresses);
        if (!like.empty()) unknown.AddHelp(fmt::format("did you mean `{}`?", like), {{label->span, std::string(like)}});
        continue;
      }
      const uint32_t target = found->second;
      if (c.jobs[target].kind == ir::JobKind::Check || c.jobs[target].kind == ir::JobKind::Hook) {
        c.diags.Emit(label->span, diag::UnknownJob, c.sources.Text(label->span))
            .Label("this is a check: jobc evaluates it itself, so there is nothing to change")
            .Secondary(c.jobs[target].name.span, "declared here");
        continue;
      }
      for (const Layer& inner : block.layers) {
        Layer copy = inner;
        copy.kind = LayerKind::ProfileJob;
        job_layers[target].push_back(copy);
      }
      Layers only = job_layers[target];
      Merged own = Merge(c, only, kProfileJob);
      auto known = [&](std::string_view name, Span span, Shape shape) {
        if (const Attribute* attribute = FindAttribute(name, kProfileJob)) {
          if (attribute->shape == shape) return;
          const bool block_form = attribute->shape == Shape::Block;
          c.diags.Emit(span, diag::WrongShape, name, block_form ? fmt::format("{} {{ … }}", name) : fmt::format("{} = …", name))
              .Label(block_form ? "this is a block" : "this is an attribute");
          return;
        }
        if (FindAttribute(name, kJob) != nullptr) {
          c.diags.Emit(span, diag::NotForProfiles, name).Label("a profile says where and how a job runs, never what it is").AddHelp("set it in the job, or use a parameter");
          return;
        }
        auto& unknown = c.diags.Emit(span, diag::UnknownAttribute, "a job of a profile", name).Label("unknown");
        std::string_view like = DidYouMean(name, AttributeNames(kProfileJob));
        if (!like.empty()) unknown.AddHelp(fmt::format("did you mean `{}`?", like), {{span, std::string(like)}});
      };
      for (const MergedItem& attr : own.attrs) known(attr.name, attr.last().item->keyword, Shape::Attr);
      for (const MergedBlock& inner : own.blocks) known(inner.name, inner.layers.back().span, Shape::Block);
      for (const MergedItem& field : own.fields) {
        c.diags.Emit(field.last().item->keyword, diag::NotForProfiles, field.name).Label("inputs and outputs belong to the job itself").AddHelp("declare it in the job");
      }
    }
    for (uint32_t j = 0; j < c.jobs.size(); ++j) {
      if (c.jobs[j].kind == ir::JobKind::Check || c.jobs[j].kind == ir::JobKind::Hook) continue;
      if (job_layers[j].empty() && !root_touches_jobs) continue;
      profile.jobs.push_back({j, CheckJobUnderProfile(c, j, root, job_layers[j])});
    }
    c.model.profiles.push_back(std::move(profile));
  }
}

ir::Limits CheckLimits(Checker& c, const Layers& layers) {
  ir::Limits limits;
  Merged merged = Merge(c, layers, kLimits);
  for (const MergedItem& attr : merged.attrs) {
    const Placed& placed = attr.last();
    Span span = placed.item->keyword;
    if (FindAttribute(attr.name, kLimits) == nullptr) {
      auto& unknown = c.diags.Emit(span, diag::UnknownAttribute, "`limits`", attr.name).Label("unknown");
      std::string_view like = DidYouMean(attr.name, AttributeNames(kLimits));
      if (!like.empty()) unknown.AddHelp(fmt::format("did you mean `{}`?", like), {{span, std::string(like)}});
      continue;
    }
    Scope scope;
    scope.unit = placed.unit();
    scope.latest = Phase::C;
    scope.place = "`limits`";
    const bool time = attr.name == "time" || attr.name == "keep";
    Typed typed = c.CheckExpr(placed.item->value, scope, c.types.Basic(time ? ir::TypeKind::Duration : ir::TypeKind::Int));
    std::optional<ir::Value> value = c.Constant(typed, (*placed.unit()->file)[placed.item->value].span);
    if (!value || (value->kind() != ir::ValueKind::Duration && value->kind() != ir::ValueKind::Int)) continue;
    if (value->as_int() <= 0) {
      c.diags.Emit((*placed.unit()->file)[placed.item->value].span, diag::OutOfRange, attr.name, "positive", c.sources.Text((*placed.unit()->file)[placed.item->value].span)).Label(attr.name == "keep" ? "nothing could ever be looked at" : "nothing could ever run");
      continue;
    }
    (attr.name == "keep" ? limits.keep_ms : time ? limits.time_ms : attr.name == "attempts" ? limits.attempts : limits.instances) = value->as_int();
  }
  return limits;
}

}  // namespace jobc::check
