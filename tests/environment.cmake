# What tests find in their environment, however they are started (ctest, ./dev test, an editor): CTest includes
# this before it runs anything. Scripts run `python3`; ./dev test puts what they compare with into build/venv.
set(stretto_venv ${CMAKE_CURRENT_LIST_DIR}/../build/venv/bin)
if(EXISTS ${stretto_venv}/python3)
  get_filename_component(stretto_venv ${stretto_venv} ABSOLUTE)
  set(ENV{PATH} "${stretto_venv}:$ENV{PATH}")
endif()
set(ENV{PYTHONDONTWRITEBYTECODE} 1)
set(ENV{ASAN_OPTIONS} detect_leaks=1:allocator_may_return_null=1)
set(ENV{UBSAN_OPTIONS} print_stacktrace=1)
# Kernels that a mock compiled are not for others.
set(ENV{STRETTO_KERNELS} "")
