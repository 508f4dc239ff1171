"""Mistakes planted into a plan. Each gives the plan that a program with this mistake would have computed, or None
where the mistake would make none; the comparison must notice every one."""
import numpy as np

from arithmetic import forward, frequencies


def without_biases(p):
    if p.layer_norm or not any(x.q[1] is not None or x.o[1] is not None for x in p.layers):
        return None
    for x in p.layers:
        x.q, x.o = (x.q[0], None), (x.o[0], None)
    return p


def neighbours_for_halves(p):
    if p.qk_late or p.layers[0].turn is None or len(p.layers[0].turn.freq) < 3:
        return None
    p.pairs = not p.pairs
    return p


def usual_eps(p):
    if p.eps < 1e-3:
        return None
    p.eps = 1e-5
    return p


def no_cap(p):
    if not 0 < p.final_cap < 10:
        return None
    p.final_cap = 0.0
    return p


def caps_for_all(p):
    if p.final_cap or p.embed_scale != 1:
        return None
    p.final_cap = 30.0
    return p


def no_scaling(p):
    """Scaled by a common factor, as the last pair shows: with the base alone it would turn faster."""
    t = p.layers[-1].turn
    if t is None or t.base is None or np.allclose(t.freq, frequencies(2 * len(t.freq), t.base)):
        return None
    for x in [x for x in p.layers if x.turn]:
        x.turn.freq = frequencies(2 * len(x.turn.freq), x.turn.base)
    return p


def no_window(p):
    if not any(0 < x.window < 10 for x in p.layers):
        return None
    for x in p.layers:
        x.window = 0
    return p


FAULTS = {"biases left out": without_biases, "neighbours turned for halves": neighbours_for_halves,
          "the usual eps": usual_eps, "a soft cap left out": no_cap, "soft caps for all": caps_for_all,
          "a scaling left out": no_scaling, "a window left out": no_window}
ENOUGH = 12                             # models for each of them
ROWS = 20                               # ids at least, so that positions and windows show


class Planted:
    def __init__(self, names):
        self.seen = {name: [0, 0] for name in names}                 # noticed, possible

    def plant(self, make_plan, ids, got, allow):
        """Would the comparison of `got` within `allow` have noticed? Only models that are right are asked."""
        if len(ids) < ROWS:
            return
        for name, count in self.seen.items():
            wrong = FAULTS[name](make_plan()) if count[1] < ENOUGH else None
            if wrong is not None:
                count[1] += 1
                count[0] += float(np.abs(forward(wrong, ids) - got).max()) > allow

    def report(self, whole):
        """True when a mistake could pass; `whole`: enough models were made for each."""
        blind = False
        for name, (noticed, possible) in self.seen.items():
            print(f"planted: {name}: noticed in {noticed} of {possible}")
            if noticed < possible or (whole and possible < ENOUGH):
                blind = True
                print(f"FAIL the planted mistake \"{name}\" would pass")
        return blind
