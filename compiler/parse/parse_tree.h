// Stage 1 of the chain: the parse tree, what the grammar (grammar/) says about one text and nothing more.
// A flat vector in post-order: a node stands behind its children and says how many it has, so that BuildAst is one
// pass with a stack and never recurses. Offsets are bytes of the source; the tree owns no text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/ast/ast.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"

namespace jobc {

/// One for each grammar rule that leaves a node. In brackets the children, in order; without brackets a leaf.
#define JOBC_NODE_KINDS(X) \
  X(Word)            /* a name or keyword where no expression is meant */ \
  X(Number)          \
  X(Text)            /* constant bytes of a string or heredoc, as written */ \
  X(Operator)        /* binary */ \
  X(UnaryOperator)   \
  X(Splice)          /* ... */ \
  X(Star)            /* the * of j[*] */ \
  X(OpenEnd)         /* the missing end of a half-open range; empty */ \
  X(HeredocTag)      \
  X(Optional)        /* the ? of a type */ \
  X(OpenWord)        /* the word `open` before `struct` */ \
  X(Name)            /* a name as an expression */ \
  X(True) X(False) X(Null) X(Regex) \
  X(Error)           /* where the parser recovered: an item, or the inside of ~{ } */ \
  X(String)          /* (Text | Interpolation)* */ \
  X(Heredoc)         /* HeredocTag (Text | Interpolation)* */ \
  X(Interpolation)   /* expr Splice?, or Error */ \
  X(Binary)          /* operand (Operator operand)*; precedence is the AST's matter */ \
  X(Unary)           /* UnaryOperator+ operand */ \
  X(Postfix)         /* atom suffix+ */ \
  X(Member)          /* Word; a suffix */ \
  X(OptMember)       /* Word; a suffix */ \
  X(Index)           /* (expr | Star)+; a suffix */ \
  X(Call)            /* Argument*; a suffix */ \
  X(Struct)          /* StructEntry*; a suffix */ \
  X(Argument)        /* Splice? Word? expr, or Type */ \
  X(StructEntry)     /* Word expr */ \
  X(If)              /* expr expr expr */ \
  X(Match)           /* expr MatchArm* */ \
  X(MatchArm)        /* expr expr */ \
  X(List)            /* Element* */ \
  X(Element)         /* Splice? expr */ \
  X(ListFor)         /* Word Word? expr Filter? Element */ \
  X(Filter)          /* expr */ \
  X(Map)             /* MapEntry* */ \
  X(MapEntry)        /* (Word | String | Number | expr) expr */ \
  X(MapFor)          /* Word Word? expr Filter? expr expr */ \
  X(Paren)           /* expr */ \
  X(Path)            /* Word+ */ \
  X(Type)            /* Path TypeArguments? Refinement? Optional? */ \
  X(TypeArguments)   /* Type+ */ \
  X(Refinement)      /* expr */ \
  X(Label)           /* String, or Path expr* */ \
  X(Field)           /* Word Type expr? */ \
  X(Attr)            /* (Word | String) Label* expr? */ \
  X(Import)          /* String Word */ \
  X(Let)             /* Word Type? expr */ \
  X(Fn)              /* Word Field* Type expr */ \
  X(Secret)          /* Word expr */ \
  X(Enum)            /* Word Case* */ \
  X(Case)            /* Word */ \
  X(Module)          /* Word Path item* */ \
  X(Alias)           /* Word Type */ \
  X(Require)         /* expr expr? */ \
  X(For)             /* Word Word? expr ForKey? ForMax? */ \
  X(ForKey)          /* expr */ \
  X(ForMax)          /* expr */ \
  X(Block)           /* OpenWord? Word Label* item* */ \
  X(Arm)             /* expr expr */ \
  X(File)            /* item* */

enum class NodeKind : uint8_t {
  None,
#define X(name) name,
  JOBC_NODE_KINDS(X)
#undef X
};

std::string_view NodeKindName(NodeKind kind);

struct Node {
  uint32_t begin = 0;
  uint32_t end = 0;            ///< behind the last token, without the blanks and comments that follow
  NodeKind kind = NodeKind::None;
  uint32_t children = 0;       ///< how many; they stand before this node, each with its own subtree
};

struct ParseTree {
  SourceId source;
  std::vector<Node> nodes;             ///< post-order; the last one is the File
  std::vector<ast::Comment> comments;  ///< in source order
};

/// Runs the grammar over one text. Always returns a tree with a File at its end; faults are in `diags`.
ParseTree ParseText(SourceId source, const SourceManager& sources, Diagnostics& diags);

}  // namespace jobc
