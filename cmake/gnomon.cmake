# Build settings shared by every target, and the two functions that declare a layer and its tests.

add_library(gnomon_options INTERFACE)
target_compile_options(gnomon_options INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wold-style-cast $<$<BOOL:${GNOMON_WERROR}>:-Werror>
  -fno-omit-frame-pointer)
# GCC's -Wconversion is the rule; Clang's (the preset fuzz) counts changes of sign and bit-fields too.
target_compile_options(gnomon_options INTERFACE
  $<$<CXX_COMPILER_ID:Clang>:-Wno-sign-conversion> $<$<CXX_COMPILER_ID:Clang>:-Wno-implicit-int-conversion>)
target_link_libraries(gnomon_options INTERFACE Threads::Threads)
if(GNOMON_SANITIZE)
  # GCC 12 takes the standard library's own variables for uninitialised once they are instrumented.
  target_compile_options(gnomon_options INTERFACE
    -fsanitize=${GNOMON_SANITIZE} -fno-sanitize-recover=all $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(gnomon_options INTERFACE -fsanitize=${GNOMON_SANITIZE})
endif()
if(GNOMON_COVERAGE)
  target_compile_options(gnomon_options INTERFACE --coverage)
  target_link_options(gnomon_options INTERFACE --coverage)
endif()

# gnomon_layer(NAME DEPS...): the static library gnomon_NAME from every .cpp below the calling folder.
function(gnomon_layer name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS *.cpp)
  if(NOT sources)
    add_library(gnomon_${name} INTERFACE)
    target_include_directories(gnomon_${name} INTERFACE ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(gnomon_${name} INTERFACE gnomon_options ${ARGN})
    return()
  endif()
  add_library(gnomon_${name} STATIC ${sources})
  target_include_directories(gnomon_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(gnomon_${name} PUBLIC ${ARGN} PRIVATE gnomon_options)
endfunction()

# gnomon_tests(NAME DEPS... [SOURCES FILE...] [LABELS LABEL...] [FILES]): one GoogleTest program from SOURCES, or else
# from every .cpp below the calling folder, registered with ctest. Labels: `full` runs only with scripts/test.sh --full.
# FILES: the tests are told where scripts/fetch.sh puts the guest's kernel and busybox; they skip what is not there.
function(gnomon_tests name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "FILES" "" "LABELS;SOURCES")
  set(sources ${arg_SOURCES})
  if(NOT sources)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS *.cpp)
  endif()
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  # The tests' own code need not be fast; lighter optimisation halves the time to build it.
  target_compile_options(test_${name} PRIVATE -O1)
  target_link_libraries(test_${name} PRIVATE gnomon_options ${arg_UNPARSED_ARGUMENTS} GTest::gmock GTest::gtest_main)
  if(arg_FILES)
    target_compile_definitions(test_${name} PRIVATE GNOMON_GUEST_FILES="${PROJECT_SOURCE_DIR}/build/guest")
  endif()
  gtest_discover_tests(test_${name} TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT 300 LABELS "${arg_LABELS}")
endfunction()
