# SPDX-License-Identifier: Apache-2.0
# One function per kind of thing that the tree holds; every folder's CMakeLists.txt is a call or two.

add_library(perilune_flags INTERFACE)
target_compile_options(perilune_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Werror -fno-omit-frame-pointer)
target_include_directories(perilune_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
if(PERILUNE_SANITIZE)
  target_compile_options(perilune_flags INTERFACE -fsanitize=${PERILUNE_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(perilune_flags INTERFACE -fsanitize=${PERILUNE_SANITIZE})
endif()
if(PERILUNE_BUILD_FUZZERS)
  # Which lines a run reaches is counted in the same build (tools/fuzz-slice).
  target_compile_options(perilune_flags INTERFACE -fsanitize=fuzzer-no-link -fprofile-instr-generate -fcoverage-mapping)
  target_link_options(perilune_flags INTERFACE -fprofile-instr-generate)
endif()

# The headers of cmake/headers.hpp, compiled once for all libraries, and those of test_headers.hpp for all tests: saves a third of a
# build from nothing by clang. Not for who edits: a compiler cache serves them better, and cannot know these builds again. Not by g++ 12:
# what it reads from there it does not know as a system's header, and warns of it.
option(PERILUNE_PRECOMPILE "Precompile the headers that most files include" OFF)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/carrier.cpp CONTENT "int main() {}\n")
function(perilune_precompile target carrier header)
  if(NOT PERILUNE_PRECOMPILE OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    return()
  endif()
  if(NOT TARGET ${carrier})
    get_target_property(type ${target} TYPE)
    if(type STREQUAL EXECUTABLE)  # -fPIE, and as tests are compiled
      add_executable(${carrier} EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/carrier.cpp)
      target_compile_options(${carrier} PRIVATE -O0)
    else()
      add_library(${carrier} OBJECT EXCLUDE_FROM_ALL ${CMAKE_BINARY_DIR}/carrier.cpp)
    endif()
    target_link_libraries(${carrier} PRIVATE perilune_flags fmt::fmt ${ARGN})
    target_precompile_headers(${carrier} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/${header})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${carrier})
endfunction()

# perilune_folder(NAME DEPS...): every .cpp below the current folder that is not a test becomes the static library
# perilune_NAME, every *_test.cpp becomes part of the test program NAME_test. EXCLUDE drops subfolders
# that are libraries of their own. TEST_LOCK names what its tests must not use beside other tests. EVERY_RUNTIME: see
# perilune_test.
function(perilune_folder name)
  cmake_parse_arguments(ARG "EVERY_RUNTIME" "TEST_LOCK" "DEPS;EXCLUDE;TEST_DEPS" ${ARGN})
  set(every_runtime)
  if(ARG_EVERY_RUNTIME)
    set(every_runtime EVERY_RUNTIME)
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  foreach(sub ${ARG_EXCLUDE})
    list(FILTER sources EXCLUDE REGEX "^${CMAKE_CURRENT_SOURCE_DIR}/${sub}/")
  endforeach()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  if(sources)
    add_library(perilune_${name} STATIC ${sources})
    target_link_libraries(perilune_${name} PUBLIC perilune_flags ${ARG_DEPS})
    perilune_precompile(perilune_${name} perilune_headers headers.hpp)
  else()
    add_library(perilune_${name} INTERFACE)
    target_link_libraries(perilune_${name} INTERFACE perilune_flags ${ARG_DEPS})
  endif()
  if(tests AND PERILUNE_BUILD_TESTS)
    perilune_test(${name}_test SOURCES ${tests} DEPS perilune_${name} ${ARG_TEST_DEPS} LOCK ${ARG_TEST_LOCK} ${every_runtime})
  endif()
endfunction()

# perilune_test(NAME SOURCES... DEPS... [LABEL l] [LOCK r] [EVERY_RUNTIME]): a GoogleTest program whose cases ctest lists one
# by one. EVERY_RUNTIME: once more with loops on epoll, as epoll/CASE (runtime/native/native_loop.hpp).
function(perilune_test name)
  cmake_parse_arguments(ARG "EVERY_RUNTIME" "LABEL;LOCK" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  set(lock)
  if(ARG_LOCK)
    set(lock RESOURCE_LOCK ${ARG_LOCK})
  endif()
  add_executable(${name} ${ARG_SOURCES})
  # What the compilers spend on making tests fast is most of a cold build; what is tested is in libraries, and optimised.
  target_compile_options(${name} PRIVATE -O0)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} perilune_flags GTest::gtest GTest::gmock GTest::gtest_main)
  perilune_precompile(${name} perilune_test_headers test_headers.hpp GTest::gtest GTest::gmock)
  include(GoogleTest)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS ${ARG_LABEL} TIMEOUT 300 ${lock})
  if(ARG_EVERY_RUNTIME)
    gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST TEST_PREFIX epoll/ TEST_LIST ${name}_epoll_TESTS
      PROPERTIES LABELS ${ARG_LABEL} TIMEOUT 300 ENVIRONMENT PERILUNE_RUNTIME=epoll ${lock})
  endif()
endfunction()

# perilune_fuzzer(NAME SOURCE DEPS...): a libFuzzer target, only in the fuzz preset (clang).
function(perilune_fuzzer name source)
  if(PERILUNE_BUILD_FUZZERS)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE ${ARGN} perilune_flags)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
