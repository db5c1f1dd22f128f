# The libraries, all from Debian 12. Statically linked where a shared one would cost start-up time.
find_package(LLVM 14 REQUIRED CONFIG)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(pegtl 3.2 REQUIRED)
find_package(Threads REQUIRED)

# jobc_llvm: static LLVMSupport only. libLLVM-14.so would cost about 25 ms at every start.
add_library(jobc_llvm INTERFACE)
target_include_directories(jobc_llvm SYSTEM INTERFACE ${LLVM_INCLUDE_DIRS})
target_link_libraries(jobc_llvm INTERFACE LLVMSupport)

find_library(JOBC_RE2_A libre2.a REQUIRED)
find_library(JOBC_UV_A libuv_a.a REQUIRED)
find_library(JOBC_SQLITE_A libsqlite3.a REQUIRED)
add_library(jobc_re2 INTERFACE)
target_link_libraries(jobc_re2 INTERFACE ${JOBC_RE2_A} Threads::Threads)
add_library(jobc_uv INTERFACE)
target_link_libraries(jobc_uv INTERFACE ${JOBC_UV_A} Threads::Threads dl)
add_library(jobc_sqlite INTERFACE)
target_link_libraries(jobc_sqlite INTERFACE ${JOBC_SQLITE_A} Threads::Threads dl m)

if(JOBC_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
