# Makes OUT, the web page in one file, of FOLDER's page.html with page.css and page.js in their places. Run with
# cmake -P at build time.
file(READ ${FOLDER}/page.html page)
foreach(part "style;page.css" "script;page.js")
  list(GET part 0 name)
  list(GET part 1 file)
  file(READ ${FOLDER}/${file} text)
  string(REPLACE "{{${name}}}" "${text}" page "${page}")
endforeach()
file(WRITE ${OUT} "${page}")
