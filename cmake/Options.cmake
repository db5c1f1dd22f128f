# Compiler flags of every target, in one place.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1 -D_GLIBCXX_ASSERTIONS")
if(JOBC_SANITIZE)
  # Without any optimisation, instrumented code is too slow for the random tests; -O1 compiles twice as long as -Og.
  set(CMAKE_CXX_FLAGS_DEBUG "-Og -g1 -D_GLIBCXX_ASSERTIONS")
endif()

add_compile_options(-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
                    -ffunction-sections -fdata-sections)
if(JOBC_WERROR)
  add_compile_options(-Werror)
endif()
add_link_options(-Wl,--gc-sections -no-pie)
if(JOBC_SANITIZE)
  add_compile_options(-fsanitize=${JOBC_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${JOBC_SANITIZE})
  if(JOBC_SANITIZE MATCHES undefined)
    # These four cost a third of the compile time: a null pointer and an object too small are AddressSanitizer's to find,
    # x86 has no alignment to violate here, and nothing is cast down.
    add_compile_options(-fno-sanitize=null,alignment,object-size,vptr)
  endif()
else()
  add_link_options(-static-libstdc++ -static-libgcc)
endif()
# Sources of every program beside its own.
set(JOBC_PROGRAM_SOURCES "")
if(JOBC_SANITIZE MATCHES thread)
  set(JOBC_PROGRAM_SOURCES "${PROJECT_SOURCE_DIR}/cmake/tsan_defaults.cpp")
endif()
# Seconds after which a test that waits for something counts as hung; with sanitizers all takes several times as long.
set(JOBC_TEST_TIMEOUT 600)
if(JOBC_SANITIZE)
  set(JOBC_TEST_TIMEOUT 1200)
endif()
include_directories("${PROJECT_SOURCE_DIR}")
# Generated headers (keyword tables, embedded modules) lie at the same paths below the build tree.
include_directories("${PROJECT_BINARY_DIR}")

# jobc_library(NAME [DEPS targets...] SOURCES files...): a static library of one folder.
function(jobc_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
endfunction()

# jobc_test(NAME [DEPS targets...] SOURCES files... [LABELS labels...] [ARGS words...]): one GoogleTest binary, one ctest entry
# with the label `unit` that starts it with ARGS. The target unit_tests builds all of them.
function(jobc_test name)
  if(NOT TARGET unit_tests)
    add_custom_target(unit_tests)
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LABELS;ARGS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES} ${JOBC_PROGRAM_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS "unit;${ARG_LABELS}")
  if(NOT "slow" IN_LIST ARG_LABELS)
    target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O0>)
  endif()
  add_dependencies(unit_tests ${name})
endfunction()
