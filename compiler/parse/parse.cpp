#include "compiler/parse/parse.h"

#include <algorithm>
#include <vector>

#include "compiler/ast/build_ast.h"
#include "compiler/parse/parse_tree.h"

namespace jobc {

ast::File Parse(SourceId source, const SourceManager& sources, Diagnostics& diags) {
  return BuildAst(ParseText(source, sources, diags), sources, diags);
}

std::string DumpParseTree(SourceId source, const SourceManager& sources, Diagnostics& diags) {
  const ParseTree tree = ParseText(source, sources, diags);
  const std::string_view text = sources[source].text;
  // From the back of the post-order a parent comes before its children, so each line's depth is known.
  std::vector<std::string> lines;
  std::vector<uint32_t> open;  // how many children each ancestor still waits for
  for (size_t i = tree.nodes.size(); i-- > 0;) {
    const Node& node = tree.nodes[i];
    while (!open.empty() && open.back() == 0) open.pop_back();
    const LineColumn at = sources.Locate(source, node.begin);
    std::string line = fmt::format("{:{}}{} {}:{}", "", open.size() * 2, NodeKindName(node.kind), at.line, at.column);
    if (node.children == 0) {
      line += " `";
      for (char c : text.substr(node.begin, std::min<uint32_t>(node.end - node.begin, 60))) {
        if (c == '\n') line += "\\n";
        else if (c == '\r') line += "\\r";
        else line += c;
      }
      line += node.end - node.begin > 60 ? "…`" : "`";
    }
    lines.push_back(std::move(line));
    if (!open.empty()) --open.back();
    open.push_back(node.children);
  }
  // Then each node's children in order: a subtree is contiguous, [begin_of[i], i].
  std::string out;
  std::vector<size_t> begin_of(tree.nodes.size());
  std::vector<size_t> roots;
  for (size_t i = 0; i < tree.nodes.size(); ++i) {
    size_t begin = i;
    for (uint32_t child = 0; child < tree.nodes[i].children; ++child) {
      begin = begin_of[roots.back()];
      roots.pop_back();
    }
    begin_of[i] = begin;
    roots.push_back(i);
  }
  std::vector<size_t> todo;
  if (!tree.nodes.empty()) todo.push_back(tree.nodes.size() - 1);
  while (!todo.empty()) {
    const size_t i = todo.back();
    todo.pop_back();
    out += lines[tree.nodes.size() - 1 - i];
    out += '\n';
    for (size_t child = i, left = tree.nodes[i].children; left > 0; --left) {
      --child;
      todo.push_back(child);
      child = begin_of[child];
    }
  }
  return out;
}

}  // namespace jobc
