/* stretto teach --recipe: a chain of trainings that makes a model answer in fewer steps. Each stage is a command of
 * this program that a person could type, with a folder or file of its own in FOLDER; FOLDER/recipe.json says which
 * there are and how many are done, so the same command goes on, or one that differs in stages to come. */
#ifndef STRETTO_RECIPE_H
#define STRETTO_RECIPE_H
#include "stretto/become.h"
#include "stretto/teach_command.h"

enum { RECIPE_STAGES = 8 };

/* What lines must be, and how much is learned of them. */
struct recipe {
    const char *name;
    bool grouped;                /* every line names its group, of which there are at least 10         */
    bool texts;                  /* lines of {"text"} fit too                                          */
    bool prompts;                /* so do lines of {"prompt", "completion"}                            */
    unsigned phrases;            /* at most                                                            */
    unsigned epochs;             /* of the first stage, where no budget is given                       */
};
const struct recipe *recipe_find(const char *name);

struct stage {
    const char *name;
    double share;                /* of the budget; 0: it takes as long as it takes                     */
    struct words words;          /* behind "stretto"; the same whatever the threads                    */
    char out[4096];              /* what it makes: a folder of a training, or a file                   */
};
struct chain {
    struct stage stage[RECIPE_STAGES];
    size_t n;
    char model[5000], adapter[5000], heads[5000];   /* what is run at the end; "": not there           */
    bool asks;                   /* prompts are asked from FOLDER/prompts.jsonl                         */
};

/* ---- recipe_data.c: an exit code, behind a sentence */
/* Whether the lines of -d are what the recipe learns from. *bytes: a hash of them. */
int recipe_check(const struct recipe *r, const struct teach_command *o, uint64_t *bytes);
/* Writes what lines with one question ask to FOLDER/prompts.jsonl, as `stretto trace` reads it. */
int recipe_prompts(const struct teach_command *o);

/* ---- recipe_chain.c */
int recipe_chain(const struct recipe *r, const struct teach_command *o, const char *model, struct chain *out);
void recipe_done(struct chain *c);

/* ---- recipe.c */
int recipe_run(const struct teach_command *o);
#endif
