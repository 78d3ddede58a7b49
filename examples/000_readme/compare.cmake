# SPDX-License-Identifier: Apache-2.0
# Fails unless README holds PROGRAM, less its licence line, as a C++ block.
file(READ "${README}" readme)
file(READ "${PROGRAM}" program)
string(REGEX REPLACE "^// SPDX[^\n]*\n" "" program "${program}")
string(FIND "${readme}" "```cpp\n${program}```" position)
if(position EQUAL -1)
  message(FATAL_ERROR "README.md does not hold this program as a cpp block:\n${program}")
endif()
