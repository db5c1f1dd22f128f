#include "support/text_width.h"

#include <gtest/gtest.h>

#include <string>

namespace jobc {
namespace {

TEST(DecodeUtf8, TakesInvalidBytesOneByOne) {
  const std::string overlong = "\xC0\xAF";
  EXPECT_FALSE(DecodeUtf8(overlong, 0).valid);
  EXPECT_EQ(DecodeUtf8(overlong, 0).size, 1u);
  EXPECT_FALSE(DecodeUtf8("\xED\xA0\x80", 0).valid) << "a surrogate";
  EXPECT_FALSE(DecodeUtf8("\xF4\x90\x80\x80", 0).valid) << "above U+10FFFF";
  EXPECT_FALSE(DecodeUtf8("\xE6\x97", 0).valid) << "cut off";
  EXPECT_EQ(DecodeUtf8("日", 0).value, U'日');
  EXPECT_EQ(DecodeUtf8("😀", 0).value, U'😀');
}

TEST(DisplayWidth, KnowsWideCombiningAndForbiddenCharacters) {
  EXPECT_EQ(DisplayWidth(U'a'), 1);
  EXPECT_EQ(DisplayWidth(U'ä'), 1);
  EXPECT_EQ(DisplayWidth(U'日'), 2);
  EXPECT_EQ(DisplayWidth(U'한'), 2);
  EXPECT_EQ(DisplayWidth(U'😀'), 2);
  EXPECT_EQ(DisplayWidth(U'\u0301'), 0);
  EXPECT_EQ(DisplayWidth(U'\u200D'), 0);
  EXPECT_EQ(DisplayWidth(U'\x1b'), -1);
  EXPECT_EQ(DisplayWidth(U'\u202E'), -1);
  EXPECT_EQ(DisplayWidth(std::string_view("e\u0301日…")), 4);
}

TEST(VisibleText, LeavesNothingThatATerminalWouldObey) {
  EXPECT_EQ(VisibleText("a\x1b[31mb"), "a␛[31mb");
  EXPECT_EQ(VisibleText(std::string_view("\0\x7f", 2)), "␀␡");
  EXPECT_EQ(VisibleText("x\ty\nz"), "x y z");
  EXPECT_EQ(VisibleText("\xFF!"), "<FF>!");
  EXPECT_EQ(VisibleText("\u202Ecba"), "<U+202E>cba");
}

TEST(FitToWidth, CutsAtCharactersAndMarksTheCut) {
  EXPECT_EQ(FitToWidth("hello", 5), "hello");
  EXPECT_EQ(FitToWidth("hello!", 5), "hell…");
  EXPECT_EQ(FitToWidth("日本語", 6), "日本語");
  EXPECT_EQ(FitToWidth("日本語", 5), "日本…");
  EXPECT_EQ(FitToWidth("日本語", 4), "日…");
  EXPECT_EQ(FitToWidth("hello", 0), "");
  EXPECT_EQ(FitToWidth("hello", 1), "…");
}

}  // namespace
}  // namespace jobc
