# cmake -DINPUT=FILE -DOUTPUT=FILE.cpp -DNAME=kName -P EmbedFile.cmake: a file's bytes as `extern const char NAME[]` and
# `extern const unsigned long NAMESize` (without the closing zero). Written in hex, so no byte needs an escape.
file(READ "${INPUT}" hex HEX)
string(LENGTH "${hex}" length)
math(EXPR size "${length} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
string(REGEX REPLACE "(................................................................................................................)" "\\1\n" bytes "${bytes}")
get_filename_component(name "${INPUT}" NAME)
file(WRITE "${OUTPUT}" "// Made from ${name}; do not edit.
extern const char ${NAME}[];
extern const unsigned long ${NAME}Size;
const char ${NAME}[] = {
${bytes}0};
const unsigned long ${NAME}Size = ${size};
")
