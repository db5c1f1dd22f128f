// How layers of settings become one: blocks merge by key, deeply; scalars, lists and maps replace; `x = null` removes.
#include <algorithm>
#include <fmt/format.h>

#include "compiler/check/declarations.h"

namespace jobc::check {

const Placed* Merged::Attr(std::string_view name) const {
  const MergedItem* item = AttrLayers(name);
  return item != nullptr ? &item->all.back() : nullptr;
}

const MergedItem* Merged::AttrLayers(std::string_view name) const {
  for (const MergedItem& item : attrs) {
    if (item.name == name) return &item;
  }
  return nullptr;
}

const MergedBlock* Merged::Block(std::string_view name) const {
  for (const MergedBlock& block : blocks) {
    if (block.name == name && block.label.empty()) return &block;
  }
  return nullptr;
}

namespace {

bool IsAction(std::string_view name) { return name == "run" || name == "script" || name == "image_args"; }

std::string LabelText(const ast::Item& item) {
  std::string text;
  for (const ast::Label& label : item.labels) {
    if (!text.empty()) text += ' ';
    if (label.is_string) {
      text += '"' + label.text + '"';
    } else {
      for (size_t i = 0; i < label.path.size(); ++i) text += (i > 0 ? "." : "") + std::string(label.path[i].text);
    }
  }
  return text;
}

template <typename Items>
MergedItem* FindItem(Items& items, std::string_view name) {
  for (MergedItem& item : items) {
    if (item.name == name) return &item;
  }
  return nullptr;
}

}  // namespace

Merged Merge(Checker& checker, Layers layers, uint32_t block) {
  Merged merged;
  merged.layers = std::move(layers);
  for (const Layer& layer : merged.layers) {
    const ast::File& file = *layer.unit->file;
    if (layer.missing) merged.incomplete = true;
    uint32_t known_in = block;
    if (block & kSettings) {
      switch (layer.kind) {
        case LayerKind::Defaults: known_in = kDefaults; break;
        case LayerKind::ProfileRoot: known_in = kProfile; break;
        case LayerKind::Template: known_in = kTemplate; break;
        case LayerKind::ProfileJob: known_in = kProfileJob; break;
        case LayerKind::Job: break;
      }
    }
    std::vector<Placed> layer_arms;
    std::string_view action_here;
    Span action_span;
    struct BlockHere {
      std::string_view name;
      std::string label;
      Span span;
    };
    std::vector<BlockHere> blocks_here;
    for (const ast::ItemId* id = file.begin(layer.items); id != file.end(layer.items); ++id) {
      const ast::Item& item = file[*id];
      Placed placed{&item, *id, &layer};
      switch (item.kind) {
        case ast::ItemKind::Error: merged.incomplete = true; break;
        case ast::ItemKind::For:
          if (known_in == kProfile || known_in == kProfileJob) {
            checker.diags.Emit(item.keyword, diag::NotForProfiles, "for").Label("which instances exist is the same under every profile").AddHelp("scatter in the job, over a parameter where it must differ");
          } else if (FindAttribute("for", known_in) == nullptr) {
            checker.diags.Emit(item.keyword, diag::MisplacedItem, "`for`", BlockTitle(known_in)).Label("only jobs and templates can be scattered");
          } else if (merged.for_item && merged.for_item.layer == &layer) {
            checker.diags.Emit(item.keyword, diag::SetTwice, "for")
                .Label("a job has at most one `for`")
                .Secondary(merged.for_item.item->keyword, "the first one")
                .AddHelp("for a product of two lists use `matrix`");
          } else {
            merged.for_item = placed;
          }
          break;
        case ast::ItemKind::Require:
          if (FindAttribute("require", known_in) == nullptr) {
            checker.diags.Emit(item.keyword, diag::MisplacedItem, "`require`", BlockTitle(known_in)).Label("only `check` and `params` can require");
          } else {
            merged.requires_.push_back(placed);
          }
          break;
        case ast::ItemKind::Arm: layer_arms.push_back(placed); break;
        case ast::ItemKind::Field: {
          MergedItem* known = FindItem(merged.fields, item.name.text);
          if (known == nullptr) {
            merged.fields.push_back({item.name.text, {placed}});
          } else if (known->all.back().layer == &layer) {
            checker.diags.Emit(item.name.span, diag::DeclaredTwice, item.name.text)
                .Label("second declaration")
                .Secondary(known->all.back().item->name.span, "first declared here");
          } else {
            known->all.push_back(placed);
          }
          break;
        }
        case ast::ItemKind::Attr: {
          std::string_view name = item.name.text;
          if (!item.name.valid()) {  // "a name" = …
            if (std::optional<std::string> text = PlainText(file, item.name_expr)) {
              // Kept by its place in the source: such names are only used where they are evaluated (publish).
              name = checker.sources.Text(file[item.name_expr].span);
            }
          }
          const bool removes = item.value.valid() && file[item.value].kind == ast::ExprKind::Null;
          MergedItem* known = FindItem(merged.attrs, name);
          if (known != nullptr && known->all.back().layer == &layer) {
            checker.diags.Emit(item.keyword, diag::SetTwice, name)
                .Label("set again")
                .Secondary(known->all.back().item->keyword, "first set here")
                .AddHelp("keep one of them");
            break;
          }
          if (IsAction(name) && !removes && (known_in & (kJobLike | kTemplate))) {
            if (!action_here.empty()) {
              checker.diags.Emit(item.keyword, diag::TwoActions, action_here, name)
                  .Label("a job does one thing")
                  .Secondary(action_span, "already said here");
              break;
            }
            action_here = name;
            action_span = item.keyword;
            merged.attrs.erase(std::remove_if(merged.attrs.begin(), merged.attrs.end(), [&](const MergedItem& m) { return IsAction(m.name) && m.name != name; }),
                               merged.attrs.end());
            known = FindItem(merged.attrs, name);
          }
          // `x = null` removes what was inherited, a whole block as well; of a name that does not exist it is told below.
          if (removes && (known != nullptr || FindAttribute(name, known_in) != nullptr)) {
            if (known != nullptr) merged.attrs.erase(known);
            std::erase_if(merged.blocks, [&](const MergedBlock& b) { return b.name == name; });
            break;
          }
          if (known == nullptr) {
            merged.attrs.push_back({name, {placed}});
          } else {
            known->all.push_back(placed);
          }
          break;
        }
        case ast::ItemKind::Block: {
          std::string label = LabelText(item);
          auto known = std::find_if(merged.blocks.begin(), merged.blocks.end(), [&](const MergedBlock& b) { return b.name == item.name.text && b.label == label; });
          for (const BlockHere& earlier : blocks_here) {
            if (earlier.name != item.name.text || earlier.label != label) continue;
            checker.diags.Emit(item.keyword, diag::SetTwice, label.empty() ? std::string(item.name.text) : fmt::format("{} {}", item.name.text, label))
                .Label("set again")
                .Secondary(earlier.span, "first set here")
                .AddHelp("put both into one block");
          }
          blocks_here.push_back({item.name.text, label, item.keyword});
          Layer inner;
          inner.unit = layer.unit;
          inner.items = item.children;
          inner.kind = layer.kind;
          inner.use = layer.use;
          inner.span = item.keyword;
          if (known == merged.blocks.end()) {
            merged.blocks.push_back({item.name.text, std::move(label), {inner}, &item});
          } else {
            known->layers.push_back(inner);
          }
          break;
        }
        default:
          checker.diags.Emit(item.keyword, diag::MisplacedItem, "this declaration", BlockTitle(known_in)).Label("declarations stand at the top level of the file");
          break;
      }
    }
    // The later layer's arms are tried first.
    merged.arms.insert(merged.arms.begin(), layer_arms.begin(), layer_arms.end());
  }
  return merged;
}

}  // namespace jobc::check
