// What jobs ask of the backend they would run on, under every profile, held against its capability table (schema.cpp):
// features it does not have (E601), more than it offers (E602), files it cannot see (E603); and of pools, held against the
// slots these have there (E306). One text may serve many jobs and
// profiles; it is told once for each backend that cannot do it. Values that need parameters are looked at by the plan stage
// (compiler/lower); growth by retries in retry_rules.cpp.
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>
#include <tuple>

#include "compiler/check/declarations.h"
#include "ir/file_path.h"
#include "ir/mounts.h"

namespace jobc::check {
namespace {

/// A job as it is under one profile, or without any.
struct Variant {
  uint32_t index = 0;
  const ir::Job* job = nullptr;
  const Merged* merged = nullptr;
  const Profile* profile = nullptr;
};

class Capable {
 public:
  explicit Capable(Checker& checker) : c_(checker) {}

  void Run() {
    std::vector<std::map<uint32_t, const ir::Job*>> of_profile(c_.model.profiles.size());
    for (size_t p = 0; p < c_.model.profiles.size(); ++p) {
      for (const ProfileJob& job : c_.model.profiles[p].jobs) of_profile[p][job.job] = &job.settings;
    }
    for (uint32_t j = 0; j < c_.jobs.size(); ++j) {
      if (c_.jobs[j].kind == ir::JobKind::Check) continue;
      // In a file with profiles, none at all is what it speaks of only where none is taken: told by the plan stage then.
      out_ = of_profile.empty() ? &c_.diags : &c_.model.without_profile;
      Look({j, &c_.model.plan.jobs[j], &c_.declarations->job_decls[j].merged, nullptr});
      out_ = &c_.diags;
      for (size_t p = 0; p < of_profile.size(); ++p) {
        auto settings = of_profile[p].find(j);
        auto merged = c_.declarations->merged_of_profile.find({p, j});
        const bool own = settings != of_profile[p].end() && merged != c_.declarations->merged_of_profile.end();
        Look({j, own ? settings->second : &c_.model.plan.jobs[j], own ? &merged->second : &c_.declarations->job_decls[j].merged, &c_.model.profiles[p]});
      }
    }
  }

 private:
  const Capabilities& Can(const Variant& v) const { return SchemaOf(Kind(v)).can; }
  /// Hooks run on the machine of jobc whatever the profile says.
  ir::BackendKind Kind(const Variant& v) const { return v.job->kind == ir::JobKind::Hook ? ir::BackendKind::Process : v.job->backend.kind; }
  std::string_view Name(const Variant& v) const { return ir::BackendName(Kind(v)); }

  /// Whether this is the first time that `what` at `span` is told of this backend.
  bool First(const Variant& v, Span span, std::string_view what) {
    return told_[out_].emplace(span.source.index, span.begin, span.end, static_cast<int>(Kind(v)), std::string(what)).second;
  }

  /// Says where the backend comes from.
  Diagnostic& Chosen(const Variant& v, Diagnostic& d) {
    const MergedItem* layers = v.merged->AttrLayers("backend");
    if (layers != nullptr && v.job->kind != ir::JobKind::Hook) {
      const Placed& last = layers->last();
      const Span span = (*last.unit()->file)[last.item->value].span;
      d.Secondary(BackendName(*last.unit()->file, last.item->value, span),
                  v.profile != nullptr ? fmt::format("`{}` runs on it under the profile `{}`", v.job->address, v.profile->name) : fmt::format("`{}` runs on it", v.job->address));
    } else if (v.job->kind == ir::JobKind::Hook) {
      d.Note("hooks run on the machine of jobc, by the backend `process`");
    } else if (v.profile != nullptr) {
      d.Note(fmt::format("the profile `{}` names no backend for `{}`, so it runs on this machine, by `process`", v.profile->name, v.job->address));
    } else {
      d.Note("without a profile jobs run on this machine, by the backend `process`");
    }
    return d;
  }

  static Span BackendName(const ast::File& file, ast::ExprId value, Span whole) {
    const ast::Expr& e = file[value];
    return e.kind == ast::ExprKind::Struct && file.child(e, 0).valid() ? file[file.child(e, 0)].span : whole;
  }

  Span ValueSpan(const Placed& placed) const {
    return placed.item->value.valid() ? (*placed.unit()->file)[placed.item->value].span : placed.item->span;
  }

  std::optional<ir::Value> Known(ir::ExprId expr) const {
    if (!expr.valid() || !c_.exprs.IsConst(expr)) return std::nullopt;
    return c_.exprs.ConstValue(expr);
  }

  void Look(const Variant& v) {
    if (v.merged->incomplete) return;
    Image(v);
    Secrets(v);
    Settings(v);
    Resources(v);
    Limits(v);
    Program(v);
    Files(v);
    Pools(v);
  }

  void Pools(const Variant& v) {
    const std::vector<ir::Pool>& pools = v.profile != nullptr ? v.profile->pools : c_.model.plan.pools;
    for (const auto& [index, claim] : v.job->pools) {
      if (index >= pools.size()) continue;
      const ir::Pool& pool = pools[index];
      const std::optional<ir::Value> slots = Known(pool.slots), wanted = Known(claim);
      if (!slots || !wanted || slots->kind() != ir::ValueKind::Int || wanted->kind() != ir::ValueKind::Int || wanted->as_int() <= slots->as_int()) continue;
      const auto span_of = [&](ir::ExprId expr) {
        const ir::Place place = c_.exprs.place(expr);
        return place.source != UINT32_MAX ? Span{SourceId{place.source}, place.begin, place.end} : Span{};
      };
      const Span span = span_of(claim).valid() ? span_of(claim) : c_.jobs[v.index].name.span;
      if (!First(v, span, fmt::format("{} slots of {}", slots->as_int(), pool.name))) continue;
      auto& d = out_->Emit(span, diag::NeverAdmitted, v.job->address, pool.name).Label(fmt::format("takes {} slots of `{}`", wanted->as_int(), pool.name));
      if (span_of(pool.slots).valid()) {
        d.Secondary(span_of(pool.slots), v.profile != nullptr && v.profile->name.size() > 0 ? fmt::format("under the profile `{}` it has {}", v.profile->name, slots->as_int())
                                                                                           : fmt::format("it has {}", slots->as_int()));
      }
      d.AddHelp(slots->as_int() == 0 ? std::string("give the pool more slots") : fmt::format("claim at most {}, or give the pool more slots", slots->as_int()));
    }
  }

  void Image(const Variant& v) {
    const Capabilities& can = Can(v);
    if (const Placed* image = v.merged->Attr("image"); image != nullptr && v.job->image.valid() && c_.exprs[v.job->image].op != ir::Op::Error && !can.takes_image) {
      if (!First(v, image->item->keyword, "image")) return;
      auto& d = out_->Emit(image->item->keyword, diag::BackendLacks, Name(v), "cannot run images").Label("would not be used");
      Chosen(v, d);
      if (v.job->kind == ir::JobKind::Hook) {
        d.AddHelp("remove it");
      } else if (v.profile == nullptr) {
        d.AddHelp("say which engine runs it:  profile local default { backend = docker { max_parallel = 4 } }");
      } else {
        d.AddHelp(fmt::format("choose an engine for it in the profile `{}`:  job {} {{ backend = docker {{ max_parallel = 4 }} }}", v.profile->name, Dotted(v)))
            .AddHelp(fmt::format("or run it without its image there:  job {} {{ image = null }}", Dotted(v)));
      }
      return;
    }
    if (can.needs_image && !v.job->image.valid()) {
      const Span name = c_.jobs[v.index].name.span;
      if (!First(v, name, "no image")) return;
      auto& d = out_->Emit(name, diag::MissingAttribute, fmt::format("the backend `{}`", Name(v)), "`image`").Label("in which image does it run?");
      Chosen(v, d).AddHelp("add to the job:  image = \"debian:12@sha256:…\"");
      return;
    }
    const Placed* args = v.merged->Attr("image_args");
    if (args != nullptr && v.job->action == ir::ActionKind::ImageArgs && can.takes_image && !can.image_args && First(v, args->item->keyword, "image_args")) {
      auto& d = out_->Emit(args->item->keyword, diag::BackendLacks, Name(v), "cannot keep an image's ENTRYPOINT").Label("arguments for an ENTRYPOINT that is not run there");
      Chosen(v, d).AddHelp("write the whole command:  run = [\"program\", …]");
    }
  }

  std::string Dotted(const Variant& v) const {
    std::string text = v.job->address;
    std::replace(text.begin(), text.end(), '/', '.');
    return text;
  }

  /// How a setting of the job is left out where it cannot be had.
  std::string TakeOut(const Variant& v, std::string_view setting) const {
    return v.profile != nullptr ? fmt::format("take it out in the profile `{}`:  job {} {{ {} }}", v.profile->name, Dotted(v), setting)
                                : "remove it, or set it in a profile whose backend has it";
  }

  // ---- secrets ----

  /// The secrets in an expression, by their place in Program::secrets.
  void SecretsIn(ir::ExprId id, std::set<uint32_t>& out, std::set<uint32_t>& seen) const {
    if (!id.valid() || !seen.insert(id.index).second) return;
    const ir::Expr e = c_.exprs[id];
    if (e.op == ir::Op::Secret) out.insert(e.a);
    if (e.op == ir::Op::Let) SecretsIn(c_.program.lets[e.a].value, out, seen);
    for (uint32_t i = 0; i < e.args.size; ++i) SecretsIn(c_.exprs.arg(e, i), out, seen);
  }

  void Secrets(const Variant& v) {
    const Capabilities& can = Can(v);
    auto look = [&](std::string_view block_name, std::string_view key, ir::ExprId value) {
      std::set<uint32_t> used, seen;
      SecretsIn(value, used, seen);
      if (used.empty()) return;
      const MergedBlock* block = v.merged->Block(block_name);
      if (block == nullptr) return;
      const Merged entries = Merge(c_, block->layers, 0);
      const Placed* placed = entries.Attr(key);
      const std::string quoted = fmt::format("\"{}\"", key);
      if (placed == nullptr) placed = entries.Attr(quoted);
      if (placed == nullptr) return;
      const Span span = ValueSpan(*placed);
      if (can.secrets == SecretCarriers::None) {
        if (!First(v, span, "secret")) return;
        auto& d = out_->Emit(span, diag::BackendLacks, Name(v), "has no safe way to pass on a secret").Label("could be read by everybody who can see the job");
        Chosen(v, d).AddHelp("run the job on another backend, or let the program fetch the secret itself with the identity of the attempt (`service_account`)");
        return;
      }
      if (block_name == "secret_files" && !can.secret_files) {
        if (!First(v, span, "secret file")) return;
        auto& d = out_->Emit(span, diag::BackendLacks, Name(v), "cannot put a secret into a file").Label("no carrier for it");
        Chosen(v, d).AddHelp("pass it as a variable:  env { NAME = … }");
        return;
      }
      for (uint32_t s : used) {
        const ir::Secret& secret = c_.program.secrets[s];
        const bool stored = secret.carrier == ir::SecretCarrier::Store;
        if (stored == (can.secrets == SecretCarriers::Stored) || !First(v, span, "carrier")) continue;
        auto& d = out_->Emit(span, diag::BackendLacks, Name(v),
                                stored ? "cannot read secrets of a store" : "cannot be given a secret of this machine").Label(fmt::format("`{}` is read by {}(\"…\")", secret.name, stored ? "store" : secret.carrier == ir::SecretCarrier::Env ? "env" : "file"));
        Chosen(v, d).AddHelp(stored ? fmt::format("read it where jobc runs:  secret {} = env(\"VARIABLE\")", secret.name)
                                    : fmt::format("keep it in the store of the cloud:  secret {} = store(\"projects/PROJECT/secrets/NAME/versions/1\")", secret.name));
      }
    };
    for (const ir::EnvEntry& entry : v.job->env) look("env", entry.name, entry.value);
    for (const ir::NamedExpr& entry : v.job->secret_files) look("secret_files", entry.name, entry.value);
  }

  void Settings(const Variant& v) {
    const Capabilities& can = Can(v);
    if (const Placed* names = v.merged->Attr("inherit_env"); names != nullptr && !v.job->inherit_env.empty() && !can.inherit_env && First(v, names->item->keyword, "inherit_env")) {
      auto& d = out_->Emit(names->item->keyword, diag::BackendLacks, Name(v), "does not share the environment of jobc").Label("the variables of this machine are not there");
      Chosen(v, d).AddHelp(fmt::format("set what the job needs:  env {{ {} = \"…\" }}", v.job->inherit_env.front()));
    }
    if (const Placed* grace = v.merged->Attr("grace"); grace != nullptr && v.job->grace.valid() && !can.grace && First(v, grace->item->keyword, "grace")) {
      auto& d = out_->Emit(grace->item->keyword, diag::BackendLacks, Name(v), "does not let the time between TERM and KILL be set").Label("would be ignored");
      Chosen(v, d).AddHelp(TakeOut(v, "grace = null"));
    }
  }

  // ---- resources and limits ----

  const Placed* Inner(const Variant& v, std::string_view block_name, uint32_t kind, std::string_view name, Merged& keep) {
    const MergedBlock* block = v.merged->Block(block_name);
    if (block == nullptr) return nullptr;
    keep = Merge(c_, block->layers, kind);
    return keep.Attr(name);
  }

  void Lacks(const Variant& v, std::string_view name, ir::ExprId value, bool wanted, std::string_view what, std::string help) {
    if (!value.valid() || !wanted) return;
    Merged resources;
    const Placed* placed = Inner(v, "resources", kResourcesBlock, name, resources);
    if (placed == nullptr || !First(v, ValueSpan(*placed), name)) return;
    auto& d = out_->Emit(ValueSpan(*placed), diag::BackendLacks, Name(v), what).Label("asked for here");
    Chosen(v, d).AddHelp(std::move(help));
  }

  void Above(const Variant& v, std::string_view block, uint32_t kind, std::string_view name, bool above, const std::string& value, const std::string& most) {
    if (!above) return;
    Merged merged;
    const Placed* placed = Inner(v, block, kind, name, merged);
    if (placed == nullptr || !First(v, ValueSpan(*placed), name)) return;
    const Span span = ValueSpan(*placed);
    auto& d = out_->Emit(span, diag::AboveLimit, block == "timeout" ? fmt::format("timeout.{}", name) : std::string(name), value, Name(v), most).Label(fmt::format("at most {}", most));
    // No edit: less is enough only where somebody says so.
    Chosen(v, d).AddHelp(fmt::format("write `{} = {}`", name, most));
    d.AddHelp(v.profile != nullptr ? fmt::format("or only under this profile:  job {} {{ {} {{ {} = {} }} }}", Dotted(v), block, name, most)
                                   : "or choose another backend for this job");
  }

  void Resources(const Variant& v) {
    const Capabilities& can = Can(v);
    const ir::ResourceSpec& r = v.job->resources;
    const std::optional<ir::Value> gpu = Known(r.gpu), spot = Known(r.spot), disk = Known(r.disk), cpu = Known(r.cpu), memory = Known(r.memory);
    Lacks(v, "gpu", r.gpu, !can.gpu && gpu && gpu->as_int() > 0, "cannot be asked for graphics processors",
          TakeOut(v, "resources { gpu = null }"));
    // It is leave to be taken away: refused only where a backend was chosen that never does.
    Lacks(v, "spot", r.spot, !can.spot && v.merged->AttrLayers("backend") != nullptr && spot && spot->as_bool(), "has no machines that can be taken away",
          TakeOut(v, "resources { spot = false }"));
    Lacks(v, "disk", r.disk, !can.disk && disk.has_value(), "cannot be asked for disk space",
          TakeOut(v, "resources { disk = null }"));
    if (can.gpu && can.max_gpu > 0 && gpu) Above(v, "resources", kResourcesBlock, "gpu", gpu->as_int() > can.max_gpu, std::to_string(gpu->as_int()), std::to_string(can.max_gpu));
    if (can.max_cpu > 0 && cpu) Above(v, "resources", kResourcesBlock, "cpu", cpu->as_float() > can.max_cpu, ir::FloatText(cpu->as_float()), ir::FloatText(can.max_cpu));
    if (can.max_memory > 0 && memory) Above(v, "resources", kResourcesBlock, "memory", memory->as_int() > can.max_memory, ir::BytesText(memory->as_int()), ir::BytesText(can.max_memory));
    // A number of accelerators without their type cannot be sent.
    if (Kind(v) == ir::BackendKind::Vertex && gpu && gpu->as_int() > 0) {
      const bool typed = std::any_of(v.job->backend.options.begin(), v.job->backend.options.end(), [](const ir::NamedExpr& o) { return o.name == "accelerator" || o.name == "extra"; });
      Merged resources;
      const Placed* placed = typed ? nullptr : Inner(v, "resources", kResourcesBlock, "gpu", resources);
      if (placed != nullptr && First(v, ValueSpan(*placed), "accelerator")) {
        auto& d = out_->Emit(ValueSpan(*placed), diag::MissingAttribute, "`gpu` on the backend `vertex`", "`accelerator`").Label("of which type?");
        Chosen(v, d).AddHelp("add to the backend:  accelerator = \"NVIDIA_TESLA_T4\"");
      }
    }
  }

  void Limits(const Variant& v) {
    const Capabilities& can = Can(v);
    if (can.max_run_ms == 0) return;
    if (const std::optional<ir::Value> run = Known(v.job->timeout.run)) {
      Above(v, "timeout", kTimeout, "run", run->as_int() > can.max_run_ms, ir::DurationText(run->as_int()), ir::DurationText(can.max_run_ms));
    }
  }

  /// Where a backend cannot set the working directory, a program cannot be named relative to it.
  void Program(const Variant& v) {
    if (Can(v).cwd || v.job->action != ir::ActionKind::Run) return;
    const Placed* run = v.merged->Attr("run");
    if (run == nullptr) return;
    const ast::File& file = *run->unit()->file;
    const ast::Expr& list = file[run->item->value];
    if (list.kind != ast::ExprKind::List || list.entries.size == 0 || file.entries[list.entries.begin].splice) return;
    const ast::ExprId first = file.entries[list.entries.begin].value;
    const std::optional<std::string> text = PlainText(file, first);
    if (!text || text->find('/') == std::string::npos || text->front() == '/') return;
    if (!First(v, file[first].span, "cwd")) return;
    auto& d = out_->Emit(file[first].span, diag::BackendLacks, Name(v), "cannot set a working directory").Label("would be looked for in a directory of the image");
    Chosen(v, d).AddHelp("name the program by its absolute path in the image, or use a `script`");
  }

  // ---- files ----

  void Files(const Variant& v) {
    const Capabilities& can = Can(v);
    Schemes(v);
    const Placed* staging = v.merged->Attr("staging");
    if (staging != nullptr && v.job->staging.valid()) {
      const std::optional<ir::Value> place = Known(v.job->staging);
      const std::string fault = place && place->kind() == ir::ValueKind::String ? ir::StagingFault(place->as_string()) : std::string();
      if (!fault.empty() && (!can.needs_staging || place->as_string().empty())) {
        if (!First(v, ValueSpan(*staging), "staging")) return;
        auto& d = out_->Emit(ValueSpan(*staging), diag::NoStaging, place->as_string(), fault);
        Chosen(v, d).AddHelp("name a folder or a bucket:  staging = \"s3://BUCKET/FOLDER\"");
        return;
      }
    }
    if (!can.needs_staging) return;
    if (staging != nullptr && v.job->staging.valid()) {
      const std::optional<ir::Value> place = Known(v.job->staging);
      if (!place || place->kind() != ir::ValueKind::String) return;
      if ((ir::IsUri(place->as_string()) && CanStage(can, place->as_string())) || !First(v, ValueSpan(*staging), "staging")) return;
      auto& d = out_->Emit(ValueSpan(*staging), diag::NotVisible, Name(v), fmt::format("`{}`", place->as_string())).Label("its machines cannot reach this place");
      Chosen(v, d).AddHelp("name a bucket:  staging = \"gs://BUCKET/FOLDER\"");
      return;
    }
    // The first thing that would have to travel.
    Span span;
    std::string what, label;
    for (const ir::Input& input : v.job->inputs) {
      if (!c_.types.HasFile(input.type)) continue;
      span = InputSpan(v, input);
      what = "files of this machine";
      label = input.implicit ? "this file would have to be there" : fmt::format("the input `{}` would have to be there", input.name);
      break;
    }
    for (const ir::Output& output : v.job->outputs) {
      if (span.valid()) break;
      if (output.kind == ir::OutputKind::Expr && !ReadsFiles(output.value)) continue;
      for (const OutputInfo& info : c_.jobs[v.index].outputs) {
        if (info.name == output.name) span = info.span;
      }
      what = "a place where this machine could find outputs";
      label = output.kind == ir::OutputKind::Json ? "the JSON result would have to come back" : "this output would have to come back";
    }
    if (!span.valid() || !First(v, span, "staging")) return;
    auto& d = out_->Emit(span, diag::NotVisible, Name(v), what).Label(label);
    Chosen(v, d).AddHelp(v.profile != nullptr ? fmt::format("add to the profile `{}`:  staging = \"gs://BUCKET/FOLDER\"", v.profile->name) : "add to the job:  staging = \"gs://BUCKET/FOLDER\"");
  }

  /// URIs that the backend cannot stage.
  void Schemes(const Variant& v) {
    for (const ir::Input& input : v.job->inputs) {
      std::set<uint32_t> seen;
      Uris(v, input.value, seen);
    }
  }

  void Uris(const Variant& v, ir::ExprId id, std::set<uint32_t>& seen) {
    if (!id.valid() || !seen.insert(id.index).second) return;
    const ir::Expr e = c_.exprs[id];
    if (e.op == ir::Op::Let) Uris(v, c_.program.lets[e.a].value, seen);
    std::string path;
    if (e.op == ir::Op::FileLiteral && e.args.size > 0 && c_.exprs.IsConst(c_.exprs.arg(e, 0))) {
      const ir::Value& text = c_.exprs.ConstValue(c_.exprs.arg(e, 0));
      if (text.kind() == ir::ValueKind::String) path = text.as_string();
    } else if (e.op == ir::Op::Const && c_.exprs.ConstValue(id).kind() == ir::ValueKind::File) {
      path = c_.exprs.ConstValue(id).as_file().path;
    }
    const bool is_dir = c_.types.kind(e.type) == ir::TypeKind::Dir;
    if (ir::IsUri(path) && !CanStage(Can(v), path, is_dir)) {
      const ir::Place place = c_.exprs.place(id);
      const Span span{SourceId{place.source}, place.begin, place.end};
      if (place.source != UINT32_MAX && First(v, span, "scheme")) {
        const bool only_dir = is_dir && CanStage(Can(v), path);
        auto& d = out_->Emit(span, diag::NotVisible, Name(v), fmt::format("`{}`", path))
                      .Label(only_dir ? std::string("a directory, and `https` servers do not say what one holds") : fmt::format("it cannot read `{}` URIs", path.substr(0, path.find(':'))));
        Chosen(v, d);
        if (only_dir) {
          d.AddHelp("put it into a bucket:  Dir = \"s3://BUCKET/FOLDER/\"");
          d.AddHelp(fmt::format("or name its files:  List<File> = [\"{}/…\"]", path.substr(0, path.find_last_not_of('/') + 1)));
        } else if (path.starts_with("http://") && CanStage(Can(v), "https://")) {
          d.AddHelp(fmt::format("if its server speaks TLS, which proves that it is the right one:  \"https{}\"", path.substr(4)));
        } else d.AddHelp(Can(v).schemes.empty() ? "fetch it in a job of its own, and use that job's output:  import \"std/fetch@1\" as fetch" : fmt::format("put it where this backend can read it: {}", SchemeList(Can(v).schemes)));
      }
    }
    for (uint32_t i = 0; i < e.args.size; ++i) Uris(v, c_.exprs.arg(e, i), seen);
  }

  static std::string SchemeList(std::string_view schemes) {
    std::string all;
    for (size_t at = 0; at < schemes.size();) {
      const size_t end = std::min(schemes.find(' ', at), schemes.size());
      all += fmt::format("{}`{}://`", all.empty() ? "" : ", ", schemes.substr(at, end - at));
      at = end + 1;
    }
    return all;
  }

  Span InputSpan(const Variant& v, const ir::Input& input) const {
    if (!input.implicit) {
      for (const InputInfo& info : c_.jobs[v.index].inputs) {
        if (info.name == input.name) return info.span;
      }
    }
    const ir::Place place = c_.exprs.place(input.value);
    if (place.source != UINT32_MAX) return {SourceId{place.source}, place.begin, place.end};
    return c_.jobs[v.index].name.span;
  }

  bool ReadsFiles(ir::ExprId id) const {
    const ir::Expr e = c_.exprs[id];
    if (e.op == ir::Op::ReadText || e.op == ir::Op::ReadJson) return true;
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (ReadsFiles(c_.exprs.arg(e, i))) return true;
    }
    return false;
  }

  Checker& c_;
  Diagnostics* out_ = nullptr;
  std::map<Diagnostics*, std::set<std::tuple<uint32_t, uint32_t, uint32_t, int, std::string>>> told_;
};

}  // namespace

void CheckCapabilities(Checker& checker) { Capable(checker).Run(); }

}  // namespace jobc::check
