/* A training that learns from another model. */
#include "base/clock.h"
#include "train/trainer_int.h"
#include <string.h>

static struct taught_shape shape_of(const struct trainer *t)
{
    return (struct taught_shape){ .vocab = t->model->config.vocab, .top = t->o.teacher_top,
                                   .drawn = t->o.teacher_drawn };
}

static double row_flops(const struct model *m, double context)
{
    double flops = 0;
    for (size_t i = 0; i < m->graph.n_nodes; i++) flops += graph_node_cost(&m->graph, i, 1, 1, context).flops;
    return flops;
}

static void number_samples(struct lines *l, uint32_t first)
{
    for (size_t i = 0; i < l->n; i++) l->sample[i].taught = first + (uint32_t)i;
}

static void plan_teacher(struct trainer *t)
{
    const struct taught_shape s = shape_of(t);
    struct train_plan *p = &t->plan;
    double rows = (double)p->rows_alone;
    for (size_t i = 0; i < t->held.n; i++) rows += (double)t->held.sample[i].last;
    p->taught_rows = t->lines.learned + t->held.learned;
    p->taught_bytes = taught_bytes(&s, &t->lines, &t->held);
    p->teacher_bytes = t->teacher->tensor_bytes;
    p->teacher_again = t->o.written > 0;
    p->teacher_flops = rows * row_flops(t->teacher, (double)p->tokens / (double)p->samples / 2);
}

static stretto_status check(const struct trainer *t, struct error *err)
{
    const struct train_options *o = &t->o;
    if (!o->teacher_top || (uint64_t)o->teacher_top + o->teacher_drawn > TAUGHT_MOST)
        return fail(err, STRETTO_E_ARG, "a teacher's likeliest tokens are at least 1, and with those that are drawn %d "
                    "at most", TAUGHT_MOST);
    if (o->teacher_top > t->model->config.vocab)
        return fail(err, STRETTO_E_ARG, "the model has %u tokens, so a teacher has no %u likeliest",
                    t->model->config.vocab, o->teacher_top);
    if (!(o->written >= 0 && o->written <= 1) || (o->written > 0 && o->epochs < 2))
        return fail(err, STRETTO_E_ARG, "--written is a share of the lines, from the second epoch on: ask for "
                    "--epochs 2 or more");
    return teacher_fits(t->teacher, t->model, err);
}

stretto_status trainer_teacher_open(struct trainer *t, struct error *err)
{
    const struct model_open_options how = { .graph_only = true, .cancel = t->o.cancel };
    if (!t->o.teacher) return STRETTO_OK;
    TRY(model_open(&t->teacher, t->o.teacher, &how, err));
    TRY(check(t, err));
    number_samples(&t->lines, 0);
    number_samples(&t->held, (uint32_t)t->lines.n);
    plan_teacher(t);
    return STRETTO_OK;
}

stretto_status trainer_teacher_content(struct trainer *t, struct error *err)
{
    if (!t->o.teacher) return STRETTO_OK;
    source_content(t->teacher->source, t->taught_by);
    if (strcmp(t->taught_by, t->base) != 0 || t->noise.block) return STRETTO_OK;
    return fail(err, STRETTO_E_ARG, "the teacher is the model itself, so nothing could be learned: name the model that "
                "it is to become like");
}

stretto_status trainer_teacher_ask_of(struct trainer *t, struct taught *to, const char *path, const struct lines *l,
                                      const struct lines *held, struct error *err)
{
    const struct taught_shape s = shape_of(t);
    const struct teacher_how how = { .model = t->o.teacher, .threads = t->o.threads, .level = t->o.level,
                                     .memory = t->o.memory, .progress = t->o.progress, .cancel = t->o.cancel };
    struct taught_key key = { .vocabulary = teacher_vocabulary(t->model) };
    double begin = clock_seconds();
    memcpy(key.teacher, t->taught_by, sizeof key.teacher);
    lines_digest(l, key.text);
    if (held) lines_digest(held, key.held);
    taught_close(to);
    TRY(taught_open(to, path, &s, &key, l, held, err));
    if (to->done && to->done < to->n)
        log_say(&t->o.log, LOG_INFO, "what the teacher said of %llu of %llu lines is in %s already",
                (unsigned long long)to->done, (unsigned long long)to->n, path);
    TRY(teacher_answer(&how, to, l, held, err));
    t->asking_seconds += clock_seconds() - begin;
    return STRETTO_OK;
}

stretto_status trainer_teacher_ask(struct trainer *t, struct error *err)
{
    if (!t->o.teacher) return STRETTO_OK;
    model_close(t->teacher);
    t->teacher = NULL;
    if (t->o.teacher_cache) snprintf(t->taught_path, sizeof t->taught_path, "%s", t->o.teacher_cache);
    else TRY(trainer_path(t->o.folder, "teacher.cache", t->taught_path, err));
    return trainer_teacher_ask_of(t, &t->taught, t->taught_path, &t->lines, &t->held, err);
}
