// Sources, imports, modules and name spaces: which names there are, before anything is typed.
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fmt/format.h>

#include "compiler/check/declarations.h"
#include "compiler/parse/parse.h"
#include "ir/builtins.h"
#include "stdlib/stdlib.h"

namespace jobc::check {
bool Declarations::Locks(const Checker& c, std::string_view image) {
  if (!lock) lock = ReadLock(LockPath(c.sources[c.model.root].directory));
  return lock->ok() && (*lock)->images.count(std::string(image)) != 0;
}

namespace {

/// Deeper module nesting than this can only be a mistake.
constexpr size_t kMaxModuleDepth = 64;

class Declarer {
 public:
  explicit Declarer(Checker& checker) : c_(checker), d_(*checker.declarations) {}

  const ast::File* ParseOnce(SourceId source, const std::string& key) {
    auto [it, fresh] = d_.file_of_path.try_emplace(key, nullptr);
    if (!fresh) return it->second;
    d_.files.push_back(Parse(source, c_.sources, c_.diags));
    const ast::File* file = &d_.files.back();
    it->second = file;
    c_.model.sources.push_back(source);
    CheckEdition(*file);
    return file;
  }

  Unit* NewUnit(const ast::File* file, std::string prefix, Unit* parent, bool is_module) {
    c_.units.push_back(std::make_unique<Unit>());
    Unit* unit = c_.units.back().get();
    unit->index = static_cast<uint32_t>(c_.units.size() - 1);
    unit->file = file;
    unit->prefix = std::move(prefix);
    unit->parent = parent;
    unit->is_module = is_module;
    d_.unit_blocks.emplace_back();
    return unit;
  }

  /// The unit that holds a file's types, functions, constants and templates.
  Unit* LibraryOf(const ast::File* file) {
    auto it = d_.library_of_file.find(file);
    if (it != d_.library_of_file.end()) return it->second;
    Unit* unit = NewUnit(file, "", nullptr, false);
    d_.library_of_file[file] = unit;
    DeclareUnit(*unit, false);
    return unit;
  }

  void DeclareUnit(Unit& unit, bool with_jobs) {
    const ast::File& file = *unit.file;
    // Types first: units of one file share them, so that a struct is one type however often its file is used.
    Unit* library = nullptr;
    auto it = d_.library_of_file.find(unit.file);
    if (it == d_.library_of_file.end()) {
      d_.library_of_file[unit.file] = &unit;
    } else if (it->second != &unit) {
      library = it->second;
    }
    // Imports before everything else: a module may stand above the import that it instantiates.
    for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
      if (file[*id].kind == ast::ItemKind::Import) DeclareImport(unit, file[*id]);
    }
    for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
      DeclareItem(unit, *id, file[*id], library, with_jobs);
    }
    CheckParamNames(unit);
  }

 private:
  void CheckEdition(const ast::File& file) {
    const ast::Item* first = nullptr;
    for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
      if (file[*id].kind != ast::ItemKind::Error) {
        first = &file[*id];
        break;
      }
    }
    const Span start{file.source, 0, 0};
    if (first == nullptr || first->kind != ast::ItemKind::Attr || first->name.text != "edition") {
      // A file whose first item did not even parse has been told enough.
      if (first == nullptr && file.root.size > 0) return;
      // Nor was one that could not be read at all.
      if (first == nullptr && !c_.diags.all().empty() && c_.diags.all().back().primary.span.source == file.source) return;
      Span where = first != nullptr ? first->keyword : start;
      for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
        if (file[*id].kind != ast::ItemKind::Attr || file[*id].name.text != "edition") continue;
        c_.diags.Emit(file[*id].keyword, diag::EditionMissing)
            .Label("says so too late: the edition is the first item")
            .Secondary(where, "this comes before it")
            .AddHelp("move it to the start of the file");
        return;
      }
      c_.diags.Emit(where, diag::EditionMissing)
          .Label("the first item must be the edition")
          .AddHelp("begin the file with:  edition = 1", {{start, "edition = 1\n"}});
      return;
    }
    const ast::Expr& value = file[first->value];
    if (value.kind != ast::ExprKind::Int || value.int_value != 1) {
      c_.diags.Emit(value.span, diag::EditionUnknown, std::string(c_.sources.Text(value.span)))
          .Label("this jobc knows edition 1")
          .AddHelp("write `edition = 1`, or install a newer jobc", {{value.span, "1"}});
    }
  }

  static ast::ItemId FirstEdition(const ast::File& file) {
    for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
      if (file[*id].kind == ast::ItemKind::Attr && file[*id].name.text == "edition") return *id;
    }
    return {};
  }

  /// Inside `params` the parameters are bare names: one that equals a value of the file would shadow it.
  void CheckParamNames(Unit& unit) {
    for (const auto& param : unit.params) {
      auto value = unit.values.find(param.first());
      if (value == unit.values.end() || value->second.kind != SymbolKind::Let) continue;
      auto [first, second] = std::minmax(param.second.span, value->second.span);
      c_.diags.Emit(second, diag::DeclaredTwice, c_.sources.Text(second))
          .Label("second declaration")
          .Secondary(first, "first declared here")
          .AddHelp("inside `params` both are bare names: give one of them another name");
    }
  }

  /// Declares `name` in `map`; an earlier one of the same name is E103.
  bool Declare(llvm::StringMap<Symbol>& map, const ast::Name& name, Symbol symbol) {
    symbol.span = name.span;
    auto [it, fresh] = map.try_emplace(llvm::StringRef(name.text.data(), name.text.size()), symbol);
    if (fresh) return true;
    c_.diags.Emit(name.span, diag::DeclaredTwice, name.text)
        .Label("second declaration")
        .Secondary(it->second.span, "first declared here")
        .AddHelp(fmt::format("give one of them another name, such as `{}_2`", name.text));
    return false;
  }

  void CheckFreeName(const ast::Name& name) {
    if (!IsScopeWord(name.text)) return;
    c_.diags.Emit(name.span, diag::ReservedName, name.text)
        .Label("this word has a meaning of its own in expressions")
        .AddHelp(fmt::format("use another name, such as `{}_`", name.text));
  }

  void DeclareParams(Unit& unit, const ast::Item& block) {
    const ast::File& file = *unit.file;
    for (const ast::ItemId* id = file.begin(block.children); id != file.end(block.children); ++id) {
      const ast::Item& item = file[*id];
      if (item.kind == ast::ItemKind::Field) {
        CheckFreeName(item.name);
        if (!Declare(unit.params, item.name, {SymbolKind::Param, static_cast<uint32_t>(c_.params.size())})) continue;
        ParamInfo info;
        info.unit = &unit;
        info.item = *id;
        c_.params.push_back(std::move(info));
      } else if (item.kind == ast::ItemKind::Require) {
        d_.unit_blocks[unit.index].requires_.push_back(*id);
      } else if (item.kind != ast::ItemKind::Error) {
        c_.diags.Emit(item.keyword, diag::MisplacedItem, "this item", "`params`")
            .Label("a parameter is declared with its type")
            .AddHelp("write `name: Type` or `name: Type = default`");
      }
    }
  }

  void DeclareItem(Unit& unit, ast::ItemId id, const ast::Item& item, Unit* library, bool with_jobs) {
    using Kind = ast::ItemKind;
    Declarations::UnitBlocks& blocks = d_.unit_blocks[unit.index];
    switch (item.kind) {
      case Kind::Error: return;
      case Kind::Import: return;  // declared before
      case Kind::Let:
        CheckFreeName(item.name);
        if (Declare(unit.values, item.name, {SymbolKind::Let, static_cast<uint32_t>(c_.lets.size())})) {
          LetInfo info;
          info.unit = &unit;
          info.item = id;
          c_.lets.push_back(info);
        }
        return;
      case Kind::Fn:
        CheckFreeName(item.name);
        if (ir::BuiltinFromName(item.name.text)) {
          c_.diags.Emit(item.name.span, diag::ReservedName, item.name.text)
              .Label("this is a function of the language")
              .AddHelp(fmt::format("use another name, such as `my_{}`", item.name.text));
          return;
        }
        if (Declare(unit.fns, item.name, {SymbolKind::Fn, static_cast<uint32_t>(c_.fns.size())})) {
          FnInfo info;
          info.unit = &unit;
          info.item = id;
          c_.fns.push_back(std::move(info));
        }
        return;
      case Kind::Secret:
        CheckFreeName(item.name);
        if (Declare(unit.values, item.name, {SymbolKind::Secret, static_cast<uint32_t>(c_.program.secrets.size())})) {
          DeclareSecret(unit, id, item);
        }
        return;
      case Kind::Enum:
      case Kind::Alias: return DeclareType(unit, id, item, library, item.kind == Kind::Enum ? SymbolKind::Enum : SymbolKind::Alias);
      case Kind::Module:
        CheckFreeName(item.name);
        return DeclareModule(unit, id, item, with_jobs);
      case Kind::Attr:
        if (item.name.text == "edition") {
          // A first one that stands too late has been told by CheckEdition.
          if (id != FirstEdition(*unit.file)) {
            c_.diags.Emit(item.keyword, diag::SetTwice, "edition").Label("the edition is said once, at the start").AddHelp("keep one of them");
          }
          return;
        }
        c_.diags.Emit(item.keyword, diag::UnknownBlock, item.name.text)
            .Label("not a declaration")
            .AddHelp(fmt::format("for a constant write:  let {} = …", item.name.text), {{{item.keyword.source, item.keyword.begin, item.keyword.begin}, "let "}});
        return;
      case Kind::Block: return DeclareBlock(unit, id, item, library, with_jobs, blocks);
      default:
        c_.diags.Emit(item.keyword, diag::MisplacedItem, "this item", "a file")
            .Label("expected a declaration such as `job`, `params` or `let`");
        return;
    }
  }

  void DeclareType(Unit& unit, ast::ItemId id, const ast::Item& item, Unit* library, SymbolKind kind) {
    const ast::Name& name = item.name;
    if (library != nullptr) {
      auto found = library->types.find(llvm::StringRef(name.text.data(), name.text.size()));
      if (found != library->types.end()) unit.types.try_emplace(found->first(), found->second);
      return;
    }
    static constexpr std::string_view kBuiltin[] = {"Bool", "Int", "Float", "String", "Duration", "Bytes", "File", "Dir", "Json",
                                                    "Secret", "List", "Map", "Pair", "Args", "Regex", "Range"};
    if (std::find(std::begin(kBuiltin), std::end(kBuiltin), name.text) != std::end(kBuiltin)) {
      c_.diags.Emit(name.span, diag::ReservedName, name.text).Label("this is a type of the language");
      return;
    }
    CheckFreeName(name);
    if (!Declare(unit.types, name, {kind, static_cast<uint32_t>(c_.type_infos.size())})) return;
    TypeInfo info;
    info.unit = &unit;
    info.item = id;
    c_.type_infos.push_back(info);
  }

  void DeclareSecret(Unit& unit, ast::ItemId id, const ast::Item& item) {
    d_.secrets.push_back({&unit, id});
    ir::Secret secret;
    secret.name = unit.prefix + std::string(item.name.text);
    const ast::File& file = *unit.file;
    const ast::Expr& value = file[item.value];
    std::optional<std::string> argument;
    if (value.kind == ast::ExprKind::Call && value.entries.size == 1) {
      argument = PlainText(file, file.entries[value.entries.begin].value);
    }
    if (value.kind == ast::ExprKind::Call && argument && value.name.text == "env") {
      secret.carrier = ir::SecretCarrier::Env;
    } else if (value.kind == ast::ExprKind::Call && argument && value.name.text == "file") {
      secret.carrier = ir::SecretCarrier::File;
    } else if (value.kind == ast::ExprKind::Call && argument && value.name.text == "store") {
      secret.carrier = ir::SecretCarrier::Store;
    } else if (value.kind != ast::ExprKind::Error) {
      c_.diags.Emit(value.span, diag::NotA, "the place a secret is read from", "another expression")
          .Label("a secret is read when a run starts, never computed")
          .AddHelp("write `env(\"VARIABLE\")`, `file(\"path\")` or `store(\"reference\")`");
    }
    if (argument) secret.source = *argument;
    c_.program.secrets.push_back(std::move(secret));
  }

  void DeclareImport(Unit& unit, const ast::Item& item) {
    const ast::File& file = *unit.file;
    ImportInfo info;
    info.span = item.span;
    auto index = static_cast<uint32_t>(d_.imports.size());
    CheckFreeName(item.name);
    bool declared = Declare(unit.values, item.name, {SymbolKind::Import, index});
    std::optional<std::string> path = PlainText(file, item.value);
    Span where = file[item.value].span;
    if (path) {
      info.file = LoadImport(unit, *path, where);
    } else if (file[item.value].kind != ast::ExprKind::Error) {
      c_.diags.Emit(where, diag::ImportNotFound, "…", "the path must be a plain string")
          .Label("imports are known before anything is evaluated");
    }
    if (declared) {
      d_.imports.push_back(info);
      if (info.file != nullptr) d_.imports[index].library = LibraryOf(info.file);
    }
    if (info.file != nullptr) d_.loading_pop();
  }

  const ast::File* LoadImport(Unit& unit, const std::string& path, Span where);
  std::optional<std::string> LockedText(const std::string& address, Span where);

  void DeclareModule(Unit& unit, ast::ItemId id, const ast::Item& item, bool with_jobs) {
    auto index = static_cast<uint32_t>(c_.modules.size());
    if (!Declare(unit.values, item.name, {SymbolKind::Module, index})) return;
    c_.modules.emplace_back();
    ModuleInfo& module = c_.modules.back();
    module.outer = &unit;
    module.item = id;
    if (!with_jobs) return;  // a library's own modules are instantiated only where the library is
    if (item.path.size() != 1) {
      if (!item.path.empty()) {
        c_.diags.Emit(item.path.front().span, diag::UnknownImport, item.path.front().text).Label("expected the name of an import");
      }
      return;
    }
    const ast::Name& name = item.path.front();
    auto found = unit.values.find(llvm::StringRef(name.text.data(), name.text.size()));
    if (found == unit.values.end() || found->second.kind != SymbolKind::Import) {
      std::vector<std::string_view> names;
      for (const auto& entry : unit.values) {
        if (entry.second.kind == SymbolKind::Import) names.push_back({entry.first().data(), entry.first().size()});
      }
      auto& d = c_.diags.Emit(name.span, diag::UnknownImport, name.text).Label("a module instantiates an import");
      std::string_view like = DidYouMean(name.text, names);
      if (!like.empty()) {
        d.AddHelp(fmt::format("did you mean `{}`?", like), {{name.span, std::string(like)}});
      } else {
        d.AddHelp(fmt::format("add above:  import \"./{}.job\" as {}", name.text, name.text));
      }
      return;
    }
    found->second.used = true;
    const ast::File* file = d_.imports[found->second.index].file;
    if (file == nullptr) return;
    size_t depth = 0;
    for (Unit* u = &unit; u != nullptr; u = u->parent) ++depth;
    if (depth > kMaxModuleDepth) {
      c_.diags.Emit(item.keyword, diag::ImportCycle, std::string(item.name.text)).Label("modules nest too deeply");
      return;
    }
    Unit* inner = NewUnit(file, unit.prefix + std::string(item.name.text) + "/", &unit, true);
    c_.modules[index].inner = inner;
    DeclareUnit(*inner, true);
    // Exports are constants with a name, evaluated where they are used.
    for (ast::ItemId block : d_.unit_blocks[inner->index].exports) {
      const ast::Item& exports = (*file)[block];
      for (const ast::ItemId* field = file->begin(exports.children); field != file->end(exports.children); ++field) {
        if ((*file)[*field].kind != ast::ItemKind::Field) continue;
        std::string_view exported = (*file)[*field].name.text;
        if (module_exports(index).count(llvm::StringRef(exported.data(), exported.size())) != 0) {
          c_.diags.Emit((*file)[*field].name.span, diag::DeclaredTwice, exported).Label("second export of this name").AddHelp("give one of them another name");
          continue;
        }
        LetInfo info;
        info.unit = inner;
        info.item = *field;
        std::string_view export_name = (*file)[*field].name.text;
        c_.modules[index].exports.try_emplace(llvm::StringRef(export_name.data(), export_name.size()), static_cast<uint32_t>(c_.lets.size()));
        c_.lets.push_back(info);
      }
    }
  }

  llvm::StringMap<uint32_t>& module_exports(uint32_t index) { return c_.modules[index].exports; }

  ast::Name BlockName(const ast::Item& item, std::string_view keyword) {
    for (const ast::Label& label : item.labels) {
      if (!label.is_string && !label.path.empty()) return label.path.front();
    }
    c_.diags.Emit(item.keyword, diag::MissingAttribute, fmt::format("`{}`", keyword), "a name")
        .Label(fmt::format("write `{} NAME {{ … }}`", keyword));
    return {};
  }

  void DeclareBlock(Unit& unit, ast::ItemId id, const ast::Item& item, Unit* library, bool with_jobs, Declarations::UnitBlocks& blocks) {
    std::string_view word = item.name.text;
    if (word == "params") {
      blocks.params_blocks.push_back(id);
      return DeclareParams(unit, item);
    }
    if (word == "struct") {
      ast::Item named = item;
      named.name = BlockName(item, word);
      if (named.name.valid()) DeclareType(unit, id, named, library, SymbolKind::Struct);
      return;
    }
    if (word == "pool") {
      ast::Name name = BlockName(item, word);
      if (!name.valid() || !Declare(unit.pools, name, {SymbolKind::Pool, static_cast<uint32_t>(d_.pools.size())})) return;
      d_.pools.push_back({&unit, id, UINT32_MAX});
      return;
    }
    if (word == "template") {
      ast::Name name = BlockName(item, word);
      if (!name.valid() || !Declare(unit.templates, name, {SymbolKind::Template, static_cast<uint32_t>(d_.templates.size())})) return;
      d_.templates.push_back({&unit, id});
      return;
    }
    if (word == "defaults") {
      Layer layer;
      layer.unit = &unit;
      layer.items = item.children;
      layer.kind = LayerKind::Defaults;
      layer.span = item.keyword;
      if (!blocks.defaults.empty()) {
        c_.diags.Emit(item.keyword, diag::SetTwice, word).Label("set again").Secondary(blocks.defaults.front().span, "first set here").AddHelp("put both into one block");
      }
      blocks.defaults.push_back(layer);
      return;
    }
    if (word == "job" || word == "check" || word == "finally" || word == "hook") return DeclareJob(unit, id, item, with_jobs, blocks);
    if (word == "export") return blocks.exports.push_back(id);
    if (word == "publish") return blocks.publishes.push_back(id);
    if (word == "limits") {
      if (!blocks.limits.empty()) {
        c_.diags.Emit(item.keyword, diag::SetTwice, word).Label("set again").Secondary((*unit.file)[blocks.limits.front()].keyword, "first set here").AddHelp("put both into one block");
      }
      return blocks.limits.push_back(id);
    }
    if (word == "test") return blocks.tests.push_back(id);
    if (word == "profile") {
      if (&unit == c_.units.front().get()) d_.profiles.push_back({&unit, id});
      return;
    }
    std::vector<std::string_view> names;
    for (const TopLevel& top : TopLevelBlocks()) names.push_back(top.name);
    auto& d = c_.diags.Emit(item.keyword, diag::UnknownBlock, word).Label("not a declaration");
    std::string_view like = DidYouMean(word, names);
    if (!like.empty()) {
      d.AddHelp(fmt::format("did you mean `{}`?", like), {{item.keyword, std::string(like)}});
    } else if (FindAttribute(word, kSettings) != nullptr) {
      d.AddHelp(fmt::format("`{}` belongs inside a job; for all jobs write:  defaults {{ {} … }}", word, word));
    } else {
      d.AddHelp("declarations are: job, check, finally, params, struct, enum, type, let, fn, secret, import, module, template, defaults, pool, export, publish, profile, hook, limits, test");
    }
  }

  void DeclareJob(Unit& unit, ast::ItemId id, const ast::Item& item, bool with_jobs, Declarations::UnitBlocks& blocks) {
    std::string_view word = item.name.text;
    ir::JobKind kind = word == "job" ? ir::JobKind::Job : word == "check" ? ir::JobKind::Check : word == "finally" ? ir::JobKind::Finally : ir::JobKind::Hook;
    const bool is_root = &unit == c_.units.front().get();
    ast::Name name;
    if (kind == ir::JobKind::Hook) {
      // hook on EVENT { … }
      ast::Name event;
      if (item.labels.size() >= 2 && !item.labels[0].path.empty() && item.labels[0].path[0].text == "on" && !item.labels[1].path.empty()) {
        event = item.labels[1].path[0];
      }
      static constexpr std::string_view kEvents[] = {"start", "success", "failure", "finish"};
      if (!event.valid() || std::find(std::begin(kEvents), std::end(kEvents), event.text) == std::end(kEvents)) {
        c_.diags.Emit(event.valid() ? event.span : item.keyword, diag::NotA, "`hook on EVENT { … }`", "something else")
            .Label("the events are start, success, failure and finish");
        return;
      }
      name = event;
    } else {
      name = BlockName(item, word);
      if (!name.valid()) return;
      CheckFreeName(name);
    }
    // A library's jobs exist only where it is instantiated as a module.
    if (!with_jobs) return;
    if (kind != ir::JobKind::Hook) {
      SymbolKind symbol = kind == ir::JobKind::Check ? SymbolKind::Check : SymbolKind::Job;
      if (!Declare(unit.values, name, {symbol, static_cast<uint32_t>(c_.jobs.size())})) return;
    }
    if (kind == ir::JobKind::Hook && !is_root) return;
    for (size_t i = 0; kind == ir::JobKind::Hook && i < c_.jobs.size(); ++i) {
      const JobInfo& earlier = c_.jobs[i];
      if (earlier.kind != kind || earlier.name.text != name.text) continue;
      c_.diags.Emit(name.span, diag::DeclaredTwice, fmt::format("hook on {}", name.text)).Label("second declaration").Secondary(earlier.name.span, "first declared here").AddHelp("do both in one script");
      return;
    }
    JobInfo info;
    info.index = static_cast<uint32_t>(c_.jobs.size());
    info.name = name;
    info.unit = &unit;
    info.item = id;
    info.kind = kind;
    info.address = kind == ir::JobKind::Hook ? fmt::format("hook/{}", name.text) : unit.prefix + std::string(name.text);
    blocks.jobs.emplace_back(id, info.index);
    c_.jobs.push_back(std::move(info));
    d_.job_decls.emplace_back();
  }

  Checker& c_;
  Declarations& d_;
};

/// The text of a remote import, as `job.lock` beside the root pins it; nullopt after E106 or E801. Never uses the network.
std::optional<std::string> Declarer::LockedText(const std::string& address, Span where) {
  const Source& root = c_.sources[c_.model.root];
  const std::string command = root.path.empty() ? "jobc lock" : "jobc lock " + root.name;
  if (!d_.lock) d_.lock = ReadLock(LockPath(root.directory));
  if (!d_.lock->ok()) {
    c_.diags.Emit(where, diag::ImportNotFound, address, d_.lock->error().message)
        .Label("needs the lock")
        .AddHelp("repair it, or remove it and type:  " + command);
    return std::nullopt;
  }
  const auto entry = (*d_.lock)->imports.find(address);
  if (entry == (*d_.lock)->imports.end()) {
    c_.diags.Emit(where, diag::ImportNotLocked, address)
        .Label("remote imports are pinned by their hash, so that a check never needs the network")
        .AddHelp("to fetch and pin it, type:  " + command);
    return std::nullopt;
  }
  std::string text;
  switch (ReadCachedImport(entry->second, text)) {
    case Cached::Found: return text;
    case Cached::Missing:
      c_.diags.Emit(where, diag::ImportNotFound, address, "it is locked, but not in the cache of this machine")
          .Label("has to be fetched once")
          .AddHelp("to fetch it again, type:  " + command)
          .Note(CacheDirectory().empty() ? "there is no cache folder: set JOBC_CACHE, or HOME" : "the cache is " + CacheDirectory());
      return std::nullopt;
    case Cached::Damaged:
      c_.diags.Emit(where, diag::LockDiffers, address)
          .Label("its copy in the cache has another hash")
          .AddHelp("to fetch it again, type:  " + command)
          .Note(fmt::format("locked is sha256 {}; the copy is {}", entry->second.sha256, CachedImportPath(entry->second.sha256)));
      return std::nullopt;
  }
  return std::nullopt;
}

const ast::File* Declarer::LoadImport(Unit& unit, const std::string& path, Span where) {
  const Source& importer = c_.sources[unit.file->source];
  std::string key;
  std::string shown = path;
  SourceId source;
  if (path.rfind("std/", 0) == 0) {
    std::string name = path.substr(4);
    std::string version;
    if (size_t at = name.find('@'); at != std::string::npos) {
      version = name.substr(at + 1);
      name.resize(at);
    }
    const StdModule* module = FindStdModule(name);
    if (module == nullptr) {
      auto& d = c_.diags.Emit(where, diag::ImportNotFound, path, fmt::format("there is no standard module `{}`", name)).Label("unknown module");
      std::vector<std::string_view> names = StdModuleNames();
      std::string_view like = DidYouMean(name, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean `std/{}@1`?", like), {{where, fmt::format("\"std/{}@1\"", like)}});
      std::string all;
      for (std::string_view n : names) all += (all.empty() ? "std/" : ", std/") + std::string(n);
      d.Note("the standard modules are " + all);
      return nullptr;
    }
    if (version != std::to_string(module->version)) {
      c_.diags.Emit(where, diag::ImportNotFound, path, version.empty() ? "the version is missing" : "this jobc does not have that version")
          .Label(fmt::format("this jobc has version {}", module->version))
          .AddHelp(fmt::format("write \"std/{}@{}\"", name, module->version), {{where, fmt::format("\"std/{}@{}\"", name, module->version)}});
      return nullptr;
    }
    key = "std/" + name;
    auto known = d_.file_of_path.find(key);
    if (known != d_.file_of_path.end()) {
      d_.loading.push_back(key);
      return known->second;
    }
    source = c_.sources.Add(key, module->text, key);
  } else if (IsRemote(path) || IsRemote(importer.directory)) {
    const std::optional<std::string> address = ResolveRemote(IsRemote(importer.directory) ? importer.directory : path, path);
    if (!address) {
      c_.diags.Emit(where, diag::ImportNotFound, path, "only https addresses can be imported")
          .Label("could be changed on its way here")
          .AddHelp("use an https address, or keep a copy beside the file");
      return nullptr;
    }
    key = *address;
    auto known = d_.file_of_path.find(key);
    if (known != d_.file_of_path.end()) {
      if (std::find(d_.loading.begin(), d_.loading.end(), key) != d_.loading.end()) {
        std::string circle;
        for (auto it = std::find(d_.loading.begin(), d_.loading.end(), key); it != d_.loading.end(); ++it) circle += *it + " -> ";
        c_.diags.Emit(where, diag::ImportCycle, circle + key).Label("this import closes the circle");
        return nullptr;
      }
      d_.loading.push_back(key);
      return known->second;
    }
    const std::optional<std::string> text = LockedText(key, where);
    if (!text) return nullptr;
    source = c_.sources.Add(key, *text, key);
  } else {
    if (path.empty()) {
      c_.diags.Emit(where, diag::ImportNotFound, path, "the path is empty").Label("expected a path");
      return nullptr;
    }
    std::filesystem::path full = path[0] == '/' ? std::filesystem::path(path) : std::filesystem::path(importer.directory) / path;
    std::error_code error;
    std::filesystem::path real = std::filesystem::weakly_canonical(full, error);
    key = error ? full.string() : real.string();
    auto known = d_.file_of_path.find(key);
    if (known != d_.file_of_path.end()) {
      if (std::find(d_.loading.begin(), d_.loading.end(), key) != d_.loading.end()) {
        std::string circle;
        auto from = std::find(d_.loading.begin(), d_.loading.end(), key);
        for (auto it = from; it != d_.loading.end(); ++it) circle += std::filesystem::path(*it).filename().string() + " -> ";
        circle += std::filesystem::path(key).filename().string();
        c_.diags.Emit(where, diag::ImportCycle, circle)
            .Label("this import closes the circle")
            .AddHelp("move what both files need into a third one and import that");
        return nullptr;
      }
      d_.loading.push_back(key);
      return known->second;
    }
    shown = full.lexically_normal().string();
    Result<SourceId> loaded = c_.sources.Load(full.string(), shown);
    if (!loaded.ok()) {
      auto& d = c_.diags.Emit(where, diag::ImportNotFound, path, loaded.error().code == ENOENT ? "there is no such file" : loaded.error().code == EISDIR ? "it is a directory" : loaded.error().message).Label("cannot be read");
      // The most likely cause is a misspelt file name in a directory that exists.
      std::vector<std::string> files;
      for (std::filesystem::directory_iterator it(full.parent_path().empty() ? "." : full.parent_path(), error), end; !error && it != end; it.increment(error)) {
        if (it->path().extension() == ".job") files.push_back(it->path().filename().string());
      }
      std::sort(files.begin(), files.end());
      std::vector<std::string_view> names(files.begin(), files.end());
      std::string wanted = full.filename().string();
      std::string_view like = DidYouMean(wanted, names);
      if (!like.empty()) {
        std::string fixed = path.substr(0, path.size() - wanted.size()) + std::string(like);
        d.AddHelp(fmt::format("did you mean \"{}\"?", fixed), {{where, "\"" + fixed + "\""}});
      } else {
        d.Note("a relative path starts at the directory of the importing file");
      }
      return nullptr;
    }
    source = *loaded;
  }
  d_.loading.push_back(key);
  return ParseOnce(source, key);
}

constexpr std::string_view kTestSuffix = "_test.job";

/// Whether a file declares nothing that runs: its tests are then about the file it is named after.
bool OnlyTests(const ast::File& file) {
  bool tests = false;
  for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
    const ast::Item& item = file[*id];
    if (item.kind == ast::ItemKind::Module) return false;
    if (item.kind != ast::ItemKind::Block) continue;
    if (item.name.text == "test") tests = true;
    else if (item.name.text != "struct") return false;
  }
  return tests;
}

/// `count.job` for `count_test.job`. It becomes the root of the model.
const ast::File* LoadSubject(Checker& c, Declarer& declarer, const ast::File& tests, const Source& source) {
  if (source.path.empty()) return nullptr;
  auto subject_of = [](const std::string& path) { return path.substr(0, path.size() - kTestSuffix.size()) + ".job"; };
  const std::string path = subject_of(source.path);
  // Where both files are checked together, what is wrong with this one is told once.
  Result<SourceId> loaded = Error{};
  for (uint32_t i = 0; i < c.sources.size() && !loaded.ok(); ++i) {
    if (c.sources[SourceId{i}].path == path) loaded = SourceId{i};
  }
  if (!loaded.ok()) loaded = c.sources.Load(path, subject_of(source.name));
  if (!loaded.ok()) {
    Span where{tests.source, 0, 0};
    for (const ast::ItemId* id = tests.begin(tests.root); id != tests.end(tests.root); ++id) {
      if (tests[*id].kind == ast::ItemKind::Block && tests[*id].name.text == "test") {
        where = tests[*id].keyword;
        break;
      }
    }
    const std::string name = std::filesystem::path(path).filename().string();
    c.diags.Emit(where, diag::ImportNotFound, name, loaded.error().code == ENOENT ? "there is no such file" : loaded.error().message)
        .Label("a test of what?")
        .Note("a test file without jobs is about the file it is named after")
        .AddHelp(fmt::format("name this file after the one it tests, or put the tests into that file"));
    return nullptr;
  }
  std::error_code error;
  const std::string key = std::filesystem::weakly_canonical(path, error).string();
  c.declarations->loading.push_back(key);
  const ast::File* file = declarer.ParseOnce(*loaded, key);
  c.model.root = *loaded;
  std::swap(c.model.sources.front(), c.model.sources.back());
  return file;
}

/// Gives the test file the names of the file it is about. A name that both declare is E103.
void ShareNames(Checker& c, Unit& from, Unit& to) {
  auto share = [&](llvm::StringMap<Symbol>& source, llvm::StringMap<Symbol>& target) {
    for (auto& entry : source) {
      auto [it, fresh] = target.try_emplace(entry.first(), entry.second);
      if (fresh) continue;
      c.diags.Emit(it->second.span, diag::DeclaredTwice, entry.first().str())
          .Label("second declaration")
          .Secondary(entry.second.span, "declared in the file that is tested")
          .AddHelp("give this one another name");
    }
  };
  share(from.values, to.values);
  share(from.types, to.types);
  share(from.fns, to.fns);
  share(from.params, to.params);
}

}  // namespace

void DeclareAll(Checker& checker, SourceId root) {
  Declarer declarer(checker);
  const Source& source = checker.sources[root];
  std::error_code error;
  std::string key = source.path.empty() ? source.name : std::filesystem::weakly_canonical(source.path, error).string();
  checker.declarations->loading.push_back(key);
  checker.model.root = root;
  const ast::File* file = declarer.ParseOnce(root, key);
  if (source.name.ends_with(kTestSuffix) && OnlyTests(*file)) {
    if (const ast::File* subject = LoadSubject(checker, declarer, *file, source)) {
      Unit* of_subject = declarer.NewUnit(subject, "", nullptr, false);
      declarer.DeclareUnit(*of_subject, true);
      Unit* unit = declarer.NewUnit(file, "", nullptr, false);
      declarer.DeclareUnit(*unit, false);
      checker.declarations->test_unit = unit;
      ShareNames(checker, *of_subject, *unit);
      return;
    }
  }
  Unit* unit = declarer.NewUnit(file, "", nullptr, false);
  declarer.DeclareUnit(*unit, true);
}

std::string CyclePath(const std::vector<std::string>& names, std::string_view again) {
  std::string path;
  auto from = std::find(names.begin(), names.end(), again);
  for (auto it = from; it != names.end(); ++it) path += *it + " -> ";
  return path + std::string(again);
}

std::optional<std::string> PlainText(const ast::File& file, ast::ExprId expr) {
  if (!expr.valid()) return std::nullopt;
  const ast::Expr& e = file[expr];
  if (e.kind != ast::ExprKind::String) return std::nullopt;
  std::string text;
  for (uint32_t i = 0; i < e.parts.size; ++i) {
    const ast::Part& part = file.parts[e.parts.begin + i];
    if (part.expr.valid()) return std::nullopt;
    text += part.text;
  }
  return text;
}

std::string_view SourceText(const Checker& checker, const ast::File& file, ast::ExprId expr) {
  return expr.valid() ? checker.sources.Text(file[expr].span) : std::string_view();
}

bool IsScopeWord(std::string_view name) {
  static constexpr std::string_view kWords[] = {"params", "input", "output", "resources", "matrix", "run", "prev", "attempt", "it",
                                                "env", "if", "then", "else", "match", "for", "in", "true", "false", "null"};
  return std::find(std::begin(kWords), std::end(kWords), name) != std::end(kWords);
}

}  // namespace jobc::check
