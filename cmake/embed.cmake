# Makes OUT, a C file with the bytes of FILES: `const struct embedded NAME[]` of file name and text, which ends with
# a NUL; a row of NULLs ends the array. Run with cmake -P at build time, when one of the files has changed.
# FILES is a list with commas between.
string(REPLACE "," ";" files "${FILES}")
set(texts "")
set(rows "")
set(n 0)
foreach(file ${files})
  get_filename_component(name ${file} NAME)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "(................................................................................)"
    "\\1\n" bytes "${bytes}")
  string(APPEND texts "static const unsigned char text_${n}[] = {\n${bytes}0 };\n")
  string(APPEND rows "    { \"${name}\", text_${n} },\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "#include <stddef.h>
struct embedded { const char *name; const unsigned char *text; };
extern const struct embedded ${NAME}[];
${texts}const struct embedded ${NAME}[] = {
${rows}    { NULL, NULL }
};
")
