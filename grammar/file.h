// The grammar, part 4 of 4: a whole source.
#pragma once

#include "grammar/declaration.h"

namespace jobc::grammar {

struct byte_order_mark : p::string<'\xef', '\xbb', '\xbf'> {};
/// A `}` that closes nothing: reported as an item that cannot begin so, then skipped.
struct stray_close : p::seq<p::at<p::one<'}'>>, recoverable_item, separators> {};
struct file : p::seq<p::opt<byte_order_mark>, trivia, p::star<p::sor<p::seq<p::not_at<p::one<'}'>>, p::not_at<p::eof>, recoverable_item, separators>, stray_close>>, p::eof> {};

}  // namespace jobc::grammar
