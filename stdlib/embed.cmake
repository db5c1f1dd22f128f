# Writes OUTPUT: one raw string for each of MODULES.
set(text "#include \"stdlib/stdlib.h\"\n\nnamespace jobc {\n\nextern const StdModule kStdModules[];\nextern const unsigned kStdModuleCount;\n\nconst StdModule kStdModules[] = {\n")
list(LENGTH MODULES count)
foreach(module ${MODULES})
  file(READ "${DIR}/${module}.job" source)
  string(APPEND text "    {\"${module}\", 1, R\"JOBSRC(${source})JOBSRC\"},\n")
endforeach()
string(APPEND text "};\nconst unsigned kStdModuleCount = ${count};\n\n}  // namespace jobc\n")
file(WRITE "${OUTPUT}" "${text}")
