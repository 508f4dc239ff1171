#!/usr/bin/env python3
"""Writes tests/data/template_vectors.jsonl: small templates and what Jinja makes of them.

    python3 tools/make_template_vectors.py > tests/data/template_vectors.jsonl     (needs jinja2)

Rendered as transformers render chat templates: ImmutableSandboxedEnvironment with trim_blocks,
lstrip_blocks and loop controls, their tojson, raise_exception and strftime_now. A line holds the
template, its variables ("@" stands for the shared ones below) and either the text or the error.
With --random N SEED it prints N random expressions instead, for a longer comparison."""
import copy
import datetime
import json
import random
import re
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2024, 7, 26, 12, 5, 9)
SHARED = {
    "a": 7, "b": -3, "f": 2.5, "z": 0, "s": "Hello World", "e": "", "u": "Grüße, Ωμέγα ß ﬁn 日本 🎉",
    "w": "  a  b\tc \n", "t": True, "n": None, "l": [3, 1, 2], "m": ["b", "A", "c", "a"],
    "d": {"x": 1, "y": [1, 2], "items": "shadow", "z": None},
    "users": [{"name": "Zoe", "age": 30, "tags": ["p", "q"], "on": True},
              {"name": "adam", "age": 25, "tags": [], "on": False},
              {"name": "Bea", "age": 30, "tags": ["q"]}],
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U <&>"},
                 {"role": "assistant", "content": None, "tool_calls": [{"function": {
                     "name": "f", "arguments": {"k": 1.5, "é": "\u2028\"\\\n"}}}]}],
}

SNIPPETS = r'''
{{ a + b }} {{ a - b }} {{ a * b }} {{ a / 2 }} {{ a // 2 }} {{ a % 3 }} {{ a ** 2 }} {{ -a }} {{ +a }}
{{ b // 2 }} {{ b % 5 }} {{ a // b }} {{ a % b }} {{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ -7.5 % 2 }} {{ 7.5 % -2 }}
{{ 2 ** -1 }} {{ 2 ** 0.5 }} {{ 0 ** 0 }} {{ (-2) ** 3 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }}
{{ 1 / 3 }} {{ 10 / 5 }} {{ 1e100 }} {{ 1e16 }} {{ 123456789012345678 }} {{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1.5e300 * 1e10 }}
{{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_0.5_0 }} {{ 1e3 }} {{ 00 }}
{{ 1 / z }}
{{ a % z }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1,'x'] }}
{{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ [1] * 2 }} {{ (1, 2) + (3,) }} {{ [1] + [2] }} {{ 'x' * -1 }}|
{{ [1] + (2,) }}
{{ true + 1 }} {{ true and 'x' }} {{ false or 'y' }} {{ not a }} {{ none or 0 or [] }} {{ '' and 1 }}|
{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} {{ (1,) < (1, 0) }}
{{ 'a' < 1 }}
{{ none < 1 }}
{{ 'ell' in s }} {{ 'x' not in s }} {{ 1 in l }} {{ 'x' in d }} {{ 5 in (1, 5) }} {{ '' in '' }}
{{ 1 in 'abc' }}
{{ 'a' in none }}
{{ 'a' in undefinedthing }} {{ undefinedthing }}|{{ undefinedthing ~ 'x' }}
{{ undefinedthing + 1 }}
{{ undefinedthing.x }}
{{ undefinedthing['x'] }}
{{ undefinedthing() }}
{{ d.nope }}|{{ d.nope.deeper }}
{{ d.nope is defined }} {{ d['nope'] is undefined }} {{ n.foo is defined }} {{ a.foo is defined }}
{{ s[0] }} {{ s[-1] }} {{ s[99] is defined }} {{ l[0] }} {{ l[-1] }} {{ l[5] is defined }} {{ u[-1] }} {{ u[2] }}
{{ s[1:4] }} {{ s[:-3] }} {{ s[::2] }} {{ s[::-1] }} {{ u[2:9] }} {{ u[::-2] }} {{ l[1:] }} {{ l[::-1] }} {{ s[5:2] }}| {{ s[-100:100] }} {{ s[10:0:-3] }}
{{ (1,2,3)[1:] }} {{ s[none:3] }} {{ l[true] }}
{{ s['upper']() }} {{ d['x'] }} {{ d.x }} {{ d.items }}
{{ d['items'] }}
{{ none[1:] }}
{{ d[1:] }}
{{ l[::0] }}
{{ l['a'] is defined }} {{ l[1.5] is defined }} {{ d[[1]] is defined }}
{{ [1, 'two', 3.0, none, true, [1], {'a': 'b'}, (1,), ()] }}
{{ {'a': 1, 2: 'b', none: none, 1.5: [1]} }} {{ {} }} {{ [] }} {{ () }} {{ ('a',) }}
{{ "it's" }} {{ ["it's", 'say "x"', 'both \' and "', 'back\\slash', 'nl\n', 'tab\t', '\x01', 'é', '\u200b'] }}
{{ 'a' 'b' "c" }} {{ '\x41\u00e9\101\n|\q' }} {{ "\"" }} {{ '\'' }}
{{ 1 if true }} {{ 1 if false }}| {{ 1 if false else 2 }} {{ 'a' if z else 'b' if a else 'c' }}
{{ (1 if false).x }}
{{ 1, 2 }} {{ (1) }} {{ (1,) }}
{{ d.get('x') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d.keys() }} {{ d.values() }} {{ d.items() }}
{{ d.keys()|list }} {{ d.items()|list }} {{ d.keys()|length }} {{ 'x' in d.keys() }} {{ 1 in d.values() }} {{ ('x', 1) in d.items() }}
{{ l.append(4) }}
{{ d.update({'q': 1}) }}
{{ d.pop('x') }}
{{ d.setdefault('q', 1) }}
{{ l.append is defined }} {{ l.index(1) }} {{ l.count(1) }} {{ l.copy() }}
{{ l.index(99) }}
{{ s.__class__ }}|
{{ s.__class__.__mro__ }}
{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ s.capitalize() }} {{ s.swapcase() }} {{ u.upper() }} {{ u.lower() }} {{ u.title() }} {{ u.capitalize() }} {{ u.swapcase() }}
{{ 'ΣΑΣ ΑΣ. Σ'.lower() }} {{ 'İI'.lower()|length }} {{ 'ǆ'.title() }} {{ "they're bill's".title() }}
{{ s|upper }} {{ s|lower }} {{ 'hello wORLD-foo (bar)[x] <q {z'|title }} {{ 'fOO bAR'|capitalize }} {{ u|title }}
{{ w.strip() }}|{{ w.lstrip() }}|{{ w.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'.lstrip('yx') }}|{{ 'éaé'.rstrip('é') }}
{{ w|trim }}|{{ '--a--'|trim('-') }}|{{ '\u00a0\u2003a\u3000'|trim }}|{{ '\x1ca\x1f'|trim }}|{{ '\u200ba'|trim|length }}
{{ w.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a b c'.split(' ', 1) }} {{ 'a  b c'.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'abc'.split('') is defined }}
{{ 'a--b--c'.split('--')[-1] }} {{ 'a<think>b</think>c'.split('</think>')[0].split('<think>')[-1] }} {{ 'aXbXc'.rsplit('X') }} {{ ' x  y '.split(' ') }} {{ 'a b'.split(maxsplit=1) }}
{{ 'a\nb\r\nc\x0bd\u2028e'.splitlines() }} {{ 'a\n\nb\n'.splitlines() }} {{ 'a\nb'.splitlines(true) }} {{ ''.splitlines() }}
{{ 'a.b.c'.partition('.') }} {{ 'a.b.c'.rpartition('.') }} {{ 'abc'.partition('.') }} {{ 'abc'.rpartition('.') }}
{{ s.replace('o', '0') }} {{ s.replace('o', '0', 1) }} {{ 'aaa'.replace('', '-') }} {{ 'ab'.replace('', '-', 2) }} {{ ''.replace('', 'x') }} {{ s|replace('l', 'L') }} {{ s|replace('l', 'L', 2) }} {{ 121|replace(1, 'x') }}
{{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('zz') }} {{ s.find('o', 5) }} {{ s.find('o', 5, 6) }} {{ u.find('日') }} {{ s.index('W') }} {{ s.count('l') }} {{ s.count('') }} {{ s.find('') }} {{ s.rfind('') }} {{ s.find('', 99) }}
{{ s.index('zz') }}
{{ s.startswith('He') }} {{ s.endswith('ld') }} {{ s.startswith(('x', 'H')) }} {{ s.startswith('W', 6) }} {{ s.endswith('lo', 0, 5) }} {{ s.startswith('') }} {{ s.startswith('', 50) }}
{{ s.startswith(1) }}
{{ s.removeprefix('Hello ') }} {{ s.removesuffix('World') }}| {{ s.removeprefix('x') }}
{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'ab'.ljust(4) }}| {{ 'ab'.rjust(4, '.') }} {{ 'ab'.center(5, '*') }} {{ 'abc'.center(6, '*') }} {{ 'a'|center(5) }}|
{{ '-'.join(['a', 'b']) }} {{ ','.join('abc') }} {{ ''.join([]) }}|
{{ ','.join([1]) }}
{{ 'abc'.isalpha() }} {{ 'ab1'.isalnum() }} {{ '12'.isdigit() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '½'.isnumeric() }} {{ ''.isalpha() }} {{ ' \t'.isspace() }} {{ 'ABC'.isupper() }} {{ 'a1'.islower() }} {{ '1'.islower() }} {{ 'Ab Cd'.istitle() }} {{ 'é'.isascii() }} {{ 'a_1'.isidentifier() }} {{ '一'.isnumeric() }} {{ 'ª'.islower() }} {{ 'Ⅷ'.isupper() }} {{ '\u200b'.isprintable() }}
{{ '%s is %d (%5.2f) %r %x %%' % ('a', 42, 3.14159, 'q', 255) }} {{ '%05d|%-5d|%+d' % (42, 42, 42) }} {{ '%s' % 'x' }} {{ '%s' % none }} {{ '%(a)s-%(b)03d' % {'a': 1, 'b': 2} }} {{ '%5s|%-5s|%.2s' % ('a', 'b', 'xyz') }} {{ '%c%c' % ('a', 66) }} {{ '%e %g %G' % (12345.678, 0.00001, 1e20) }} {{ '%*d' % (5, 42) }} {{ '%o %X %#x' % (8, 255, 255) }} {{ '%i' % 3.99 }}
{{ '%s %s' % 'a' }}
{{ '%s' % (1, 2) }}
{{ '%d' % 'a' }}
{{ 'a' % 5 }}
{{ '%q' % 5 }}
{{ '%s, %s!'|format('Hi', 'you') }} {{ '%(x)s'|format(x=1) }} {{ '%.3f'|format(2.5) }} {{ '100%%'|format() }}
{{ '{} {}'.format(1, 'a') }} {{ '{1} {0}'.format(1, 2) }} {{ '{x}'.format(x=5) }} {{ '{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c') }} {{ '{:05d} {:+d} {:,} {:x} {:b}'.format(42, 42, 1234567, 255, 5) }} {{ '{:.2f} {:8.3f} {:.1%} {:e}'.format(3.14159, 2.5, 0.256, 12345.6) }} {{ '{{}} {!r}'.format('q') }} {{ '{0.x}{0[y]}'.format({'x': 1, 'y': 2}) }} {{ '{:*^9}'.format('mid') }} {{ '{:08.2f}'.format(-3.14159) }} {{ '{:,.2f}'.format(1234567.891) }} {{ '{:_}'.format(1234567) }}
{{ '{} {1}'.format(1, 2) }}
{{ '{}'.format() }}
{{ '{:d}'.format('a') }}
{{ '{:z}'.format(1) }}
{{ users|map(attribute='name')|list }} {{ users|map(attribute='tags.0', default='-')|list }} {{ m|map('upper')|join(',') }} {{ l|map('string')|list }} {{ m|map('replace', 'a', 'x')|list }} {{ users|map(attribute='nope')|list }} {{ []|map('upper')|list }}
{{ m|map('upper')|length }}
{{ m|map('nofilter')|list }}
{{ m|nofilter }}
{{ m is notest }}
{{ users|selectattr('on')|map(attribute='name')|list }} {{ users|rejectattr('on')|map(attribute='name')|list }} {{ users|selectattr('age', 'equalto', 30)|map(attribute='name')|list }} {{ users|selectattr('on', 'defined')|list|length }} {{ users|selectattr('age', 'gt', 26)|list|length }} {{ users|rejectattr('name', 'in', ['Zoe'])|map(attribute='name')|join('+') }}
{{ l|select('odd')|list }} {{ l|reject('odd')|list }} {{ [0, 1, '', 'a', none]|select|list }} {{ l|select('>', 1)|list }} {{ [1, 2, 3, 4]|select('divisibleby', 2)|list }} {{ ['a', 1]|select('string')|list }}
{% set g = m|map('upper') %}{{ g|list }}{{ g|list }}{{ g|first is defined }}
{{ l|first }} {{ l|last }} {{ s|first }} {{ s|last }} {{ d|first }} {{ []|first is defined }} {{ d|last }} {{ range(5)|last }} {{ m|map('upper')|first }}
{{ []|first }}|{{ []|last }}|{{ []|min }}|
{{ m|map('upper')|last }}
{{ l|sort }} {{ l|sort(reverse=true) }} {{ m|sort }} {{ m|sort(case_sensitive=true) }} {{ users|sort(attribute='name')|map(attribute='name')|list }} {{ users|sort(attribute='age,name')|map(attribute='name')|list }} {{ users|sort(attribute='age', reverse=true)|map(attribute='name')|list }} {{ 'hello'|sort }}
{{ [1, 'a']|sort }}
{{ ['b', 'B', 'a']|unique|list }} {{ ['b', 'B', 'a']|unique(case_sensitive=true)|list }} {{ [1, 1.0, true, 2]|unique|list }} {{ users|unique(attribute='age')|map(attribute='name')|list }}
{{ l|reverse|list }} {{ s|reverse }} {{ u|reverse }} {{ d|reverse|list }}
{{ l|join(', ') }} {{ l|join }} {{ users|join('/', attribute='name') }} {{ [1, none, 'a', 1.5]|join('-') }} {{ 'abc'|join('.') }} {{ undefinedthing|join(',') }}|
{{ l|sum }} {{ users|sum(attribute='age') }} {{ l|sum(start=10) }} {{ [1.5, 2]|sum }} {{ []|sum }} {{ [[1], [2]]|sum(start=[]) }}
{{ l|min }} {{ l|max }} {{ m|min }} {{ m|max }} {{ users|max(attribute='age') }} {{ m|min(case_sensitive=true) }}
{{ a|abs }} {{ b|abs }} {{ -2.5|abs }} {{ (-2.5)|abs }} {{ true|abs }}
{{ 'x'|abs }}
{{ '42'|int }} {{ '42.9'|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ ' 12 '|int }} {{ '0x1f'|int(0, 16) }} {{ '101'|int(base=2) }} {{ 3.99|int }} {{ -3.99|int }} {{ true|int }} {{ none|int }} {{ []|int(-1) }} {{ '1_0'|int }} {{ '-5'|int }} {{ '1e3'|int }} {{ 'inf'|int(9) }}
{{ undefinedthing|int }}
{{ '1.5'|float }} {{ 'x'|float }} {{ 'x'|float(2.5) }} {{ 3|float }} {{ ' -1e3 '|float }} {{ 'inf'|float }} {{ 'nan'|float }} {{ '1_0.5'|float }} {{ none|float }}
{{ 2.675|round(2) }} {{ 2.5|round }} {{ 3.5|round }} {{ 42|round }} {{ 1234.5|round(-2) }} {{ 1250|round(-2) }} {{ 2.1|round(0, 'ceil') }} {{ 2.9|round(method='floor') }} {{ 2.55|round(1, 'ceil') }} {{ -2.5|round }} {{ 0.5|round }} {{ 55.5|round(-2) }} {{ 45.5|round(-2) }} {{ 5.0|round(-2) }} {{ 1350|round(-2) }} {{ -1250|round(-2) }} {{ 42|round(1,'floor') }}
{{ 2|round(method='x') }}
{{ undefinedthing|default('D') }} {{ none|default('D') }} {{ none|default('D', true) }} {{ ''|d('E', boolean=true) }} {{ d.q|d }}| {{ 0|default(5) }} {{ d.nope|default([]) }}
{{ s|length }} {{ u|length }} {{ l|count }} {{ d|length }} {{ range(3)|length }} {{ undefinedthing|length }} {{ ''|length }}
{{ 5|length }}
{{ none|length }}
{{ d|dictsort }} {{ {'b': 1, 'A': 2, 'c': 0}|dictsort }} {{ {'b': 1, 'A': 2}|dictsort(true) }} {{ {'b': 1, 'A': 2}|dictsort(by='value', reverse=true) }} {{ {'b': 1, 'A': 2}|dictsort(false, 'value') }}
{{ d|items|list }} {{ undefinedthing|items|list }} {% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}
{{ l|items }}
{{ 'abc'|list }} {{ d|list }} {{ (1, 2)|list }} {{ range(3)|list }} {{ undefinedthing|list }} {{ u[:3]|list }}
{{ 5|list }}
{{ [1, 2, 3, 4, 5]|batch(2)|list }} {{ [1, 2, 3]|batch(2, 'x')|list }} {{ []|batch(2)|list }} {{ range(7)|slice(3)|list }} {{ range(7)|slice(3, 'x')|list }} {{ [1]|slice(3)|list }}
{{ users|groupby('age') }} {% for k, g in users|groupby('age') %}{{ k }}:{{ g|map(attribute='name')|join(',') }};{% endfor %} {{ m|groupby(attribute='0')|list }} {{ users|groupby('on', default=false)|map('first')|list }}
{{ 'a b  c-d'|wordcount }} {{ u|wordcount }} {{ ''|wordcount }}
{{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }} {{ 'foo bar baz qux'|truncate(11) }} {{ 'foo bar baz qux'|truncate(11, false, '..', 0) }} {{ s|truncate }} {{ 'abcdefghijkl'|truncate(5, leeway=0) }}
{{ 'a\nb\n\nc'|indent }}| {{ 'a\nb'|indent(2, true) }}| {{ 'a\n\nb'|indent(2, blank=true) }}| {{ 'a\nb'|indent('>>') }}| {{ ''|indent(2, true) }}| {{ 'a\n'|indent }}|
{{ '<a href="x">&\'</a>'|e }} {{ ('<'|e) + '<' }} {{ '<' + ('<'|safe) }} {{ '<' ~ ('<'|e) }} {{ ('<'|e)|e }} {{ ('<'|e)|forceescape }} {{ [('<'|e)] }} {{ ('a<'|e)|upper }} {{ 5|e }} {{ ('<'|safe) is escaped }} {{ ('<b>'|safe|string) + '<' }}
{{ 5|string }} {{ none|string }} {{ [1]|string }} {{ 1.0|string + 'x' }}
{{ d|tojson }} {{ u|tojson }} {{ u|tojson(ensure_ascii=true) }} {{ [1, 1.5, none, true, 'a', (1, 2), {}, []]|tojson }} {{ '\x00\x1f\x7f"\\/<>&\''|tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ 'nan'|float|tojson }} {{ 'inf'|float|tojson }} {{ 1e22|tojson }} {{ 12345678901234567|tojson }}
{{ d|tojson(indent=2) }} {{ {}|tojson(indent=2) }} {{ [[], {}]|tojson(indent=1) }} {{ {'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true) }} {{ d|tojson(separators=(',', ':')) }} {{ [1, 2]|tojson(indent=4, separators=(', ', ' : ')) }} {{ [1]|tojson(indent=0) }} {{ [1]|tojson(indent='--') }} {{ messages|tojson(indent=2) }} {{ '\x7f'|tojson(ensure_ascii=true) }}
{{ undefinedthing|tojson }}
{{ d.items()|tojson }}
{{ namespace()|tojson }}
{{ {(1,2): 3}|tojson }}
{{ '🎉'|attr('upper')() }} {{ d|attr('x') is defined }} {{ d|attr('get')('x') }}
{{ 1 is number }} {{ true is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ 'a' is string }} {{ none is none }} {{ true is boolean }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ d is mapping }} {{ l is mapping }} {{ l is sequence }} {{ s is sequence }} {{ d is sequence }} {{ 5 is sequence }} {{ undefinedthing is sequence }} {{ l is iterable }} {{ 5 is iterable }} {{ undefinedthing is iterable }} {{ d.keys() is sequence }} {{ range(2) is sequence }} {{ l|map('string') is iterable }} {{ l|map('string') is sequence }}
{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 'ABC' is upper }} {{ 'abc' is lower }} {{ 1 is sameas 'x' }} {{ none is sameas none }} {{ true is sameas true }} {{ 1 is in [1, 2] }} {{ 1 is not in [1] }} {{ 5 is eq 5 }} {{ 5 is ne 5 }} {{ 5 is lt 6 }} {{ 5 is ge(5) }} {{ 'a' is equalto 'a' }} {{ range is callable }} {{ 5 is callable }} {{ 'upper' is filter }} {{ 'nope' is filter }} {{ 'odd' is test }} {{ strftime_now is defined }} {{ -3 is odd }}
{{ 'a' is odd }}
{{ a is defined and a is number }} {{ a is not defined or true }} {{ not a is defined }} {{ a is divisibleby 7 and true }} {{ 'x' if a is odd else 'y' }}
{{ range(5)|list }} {{ range(1, 4)|list }} {{ range(5, 0, -2)|list }} {{ range(0) }} {{ range(1, 5, 2) }} {{ range(3)[1] }} {{ range(3)[-1] }} {{ 2 in range(3) }} {{ range(3) == range(0, 3, 1) }}
{{ range(1, 2, 0) }}
{{ range(1000000) }}
{{ range('a') }}
{{ dict(a=1, b=2) }} {{ dict([('x', 1)], y=2) }} {{ dict({'q': 1}, q=2) }} {{ dict() }} {{ dict(**{'k': 1}) }}
{{ namespace(a=1) }} {{ namespace({'x': 1}).x }} {{ namespace().q is defined }}
{% set ns = namespace(x=1) %}{% for i in range(3) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns['x'] }}
{% set ns = {'x': 1} %}{% set ns.x = 2 %}
{% set x = 1 %}{% for i in range(2) %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}
{% if false %}{% set y = 1 %}{% endif %}{{ y is defined }}
{% set x, y = 1, 2 %}{{ y }}{{ x }} {% set (p, q), r = [3, 4], 5 %}{{ p }}{{ q }}{{ r }} {% set o = 1, 2 %}{{ o }}
{% set x, y = 1, 2, 3 %}
{% set x, y = 'ab' %}{{ y }}{{ x }}
{% set x %}  block {{ a }}{% endset %}[{{ x }}] {% set y | upper | trim %} abc {% endset %}[{{ y }}]
{% set ns = namespace() %}{% set ns.b %}q{% endset %}{{ ns.b }}
{% set x %}{% set inner = 1 %}{{ inner }}{% endset %}{{ x }}{{ inner is defined }}
{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for i in l|map('string') %}{{ loop.length }}{{ loop.last }}{{ i }}{% endfor %} {% for i in l if i > 1 %}{{ i }}/{{ loop.length }}/{{ loop.last }} {% endfor %}
{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %} {% for i in l %}{{ loop }}{% endfor %} {% for i in l %}{{ loop|length }}{% endfor %}
{% for c in 'añ🎉' %}[{{ c }}]{% endfor %} {% for k in d %}{{ k }}{% endfor %} {% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %} {% for x in undefinedthing %}n{% else %}none{% endfor %}
{% for i in 5 %}{% endfor %}
{% for i in none %}{% endfor %}
{% for a, b in [1, 2] %}{% endfor %}
{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }}{% endfor %} {% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for i in [] %}x{% else %}empty{% endfor %} {% for i in l if i > 9 %}x{% else %}none{% endfor %} {% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% else %}E{% endfor %}
{% for i in range(6) %}{% if i % 2 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %} {% for i in l %}{% for j in l %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}
{% set ns = namespace(stop=false) %}{% for i in range(5) if not ns.stop %}{{ i }}{% if i == 2 %}{% set ns.stop = true %}{% endif %}{% endfor %}
{% for i in l %}{% set outer = loop %}{% for j in 'ab' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
{% for m in messages %}{% if loop.previtem and loop.previtem.role == 'user' %}[{{ m.role }}]{% endif %}{% if not loop.last and loop.nextitem.role != 'user' %}<{{ m.role }}>{% endif %}{% endfor %}
{% for loop in l %}{% endfor %}
{{ loop is defined }}{{ loop }}
{% break %}
{% if a > 5 %}big{% elif a > 3 %}mid{% else %}small{% endif %} {% if z %}1{% elif n %}2{% elif e %}3{% else %}4{% endif %} {% if not z and (n is none or a) %}ok{% endif %}
{% macro f(x, y=2, z='q') %}{{ x }}{{ y }}{{ z }}{% endmacro %}{{ f(1) }} {{ f(1, 5) }} {{ f(1, z=9) }} {{ f(y=1, x=0) }} {{ f() }} {{ f(*[1, 2, 3]) }} {{ f(**{'x': 7}) }} {{ f.name }}
{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1, 2) }}
{% macro f(x) %}{{ x }}{% endmacro %}{{ f(q=2) }}
{% macro f(x) %}{{ x is defined }}{{ x.y }}{% endmacro %}{{ f() }}
{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, k=3) }} {{ f }}
{% macro f(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ f(4) }} {% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * fact(n - 1)|int }}{% endif %}{% endmacro %}{{ fact(5) }}
{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}in {{ a }}{% endcall %} {% macro g(x) %}{{ caller(x, 2) }}{% endmacro %}{% call(p, q) g(1) %}{{ p }}-{{ q }}{% endcall %}
{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}
{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}
{% call 5 %}{% endcall %}
{% set v = 1 %}{% macro f() %}{{ v }}{% set v = 9 %}{{ v }}{% endmacro %}{% set v = 2 %}{{ f() }}{{ v }}
{% for i in range(2) %}{% macro h() %}{{ i }}{% endmacro %}{{ h() }}{% endfor %} {% macro outer() %}{% macro inner() %}x{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }} {{ inner is defined }}
{% filter upper %}abc {{ s }}{% endfilter %} {% filter replace('a', 'b')|trim %} aaa {% endfilter %}
{% with x = 1, y = a %}{{ x }}{{ y }}{% endwith %}{{ x is defined }} {% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }} {% set x = 5 %}{% with x = 1, y = x %}{{ y }}{% endwith %}
{% raw %}{{ not }} {% if %}{% endraw %} {%- raw -%} x {%- endraw -%} y
{# comment #}a{#- b -#} c {# multi
line #}
d
{% include 'x' %}
{% extends 'x' %}
{% import 'x' as y %}
{% unknowntag %}
{% if a %}
{% endif %}
{% for i in l %}{% endif %}
{{ a
{% if a
{{ 'abc }}
{{ a b }}
{{ }}
{{ (1 }}
{{ 1 ) }}
{{ [1, }}
{{ a.1.2 is defined }} {{ l.0 }} {{ {'k': [5, 6]}.k.1 }} {{ users.0.name }}
{{ a[] }}
{{ a..b }}
{{ a | }}
{{ a is }}
{{ a ! b }}
{{ $a }}
{% set = 1 %}
{% set 1 = 1 %}
{% set a.b.c = 1 %}
{% for in l %}{% endfor %}
{% macro %}{% endmacro %}
{% macro f(a=1, b) %}{% endmacro %}
{{ f(a=1, 2) }}
{{ raise_exception('boom ' ~ a) }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %B %b %A %a %j %U %W %w %d %y %p %I %%') }} {{ strftime_now('%-d %-m %e %D %F %T %R') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%G-W%V-%u') }} {{ strftime_now('%c|%x|%X') }} {{ strftime_now('%f%z%Z') }}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{% set j = joiner('|') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}
{{ 'a' is string and 'b' }} {{ 1 + 2 * 3 - 4 / 2 }} {{ 2 * 3 ~ 4 + 1 }} {{ not true == false }} {{ -1|abs }} {{ a if b else c }} {{ 'x' ~ 1 + 2 }}
{{ 7 if a is defined and a > 5 else 8 }} {{ a|string|length }} {{ (a|string) ~ b }} {{ -a|abs }} {{ -(a|abs) }} {{ s|upper|lower|title }} {{ [a, b]|max - 1 }}
{{ messages[1:]|length }} {{ messages[-1]['tool_calls'][0].function.arguments|tojson }} {{ messages|selectattr('role', 'equalto', 'user')|list|tojson }} {{ messages[0].content is none }} {{ (messages|last).content is none }}
{{ ''.join(['a']) ~ d.get('x', 0) }} {{ (d.items()|list)[0][1] }} {{ d.x if d.x is defined else 'no' }} {{ messages|map(attribute='role')|join(' ')|title }}
{{ {'a': {'b': {'c': 1}}}.a.b.c }} {{ {'a': 1} == {'a': 1.0} }} {{ [1, [2]] == [1, [2]] }} {{ (1, 2) == [1, 2] }} {{ undefinedthing == undefined2 }} {{ none == undefinedthing }} {{ 'a' == 1 }} {{ l == l }} {{ [] == () }}
{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }} {{ 4611686018427387904 + 4611686018427387903 }}
{% generation %}{% set gg = 1 %}G{{ gg }}{% endgeneration %}{{ gg is defined }}
{% print a %} {% print 'x' ~ s %}
'''

# White space control, tags over lines: kept apart because they hold newlines.
BLOCKS = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n", "  {% if true %}  \n  x\n  {% endif %}  y", "a {%- if true -%} b {%- endif -%} c",
    "x\n  {%+ if true %}\ny{% endif %}", "x {% if true +%}\ny{% endif %}", "{{- 1 -}}  \n {{ 2 }}\n", "a\n\n  {{- 1 }}\n",
    "\n\n{% set x = 1 %}\n\n{{ x }}\n\n", "a\r\nb\rc\n{{ 'x\r\ny' }}\r\n", "{% for i in [1, 2] %}\n  - {{ i }}\n{% endfor %}\nend",
    "{% for i in [1, 2] -%}\n  - {{ i }}\n{%- endfor %}\nend", "a   {# c #}   b", "   {# c #}\nb", "   {#- c -#}\n  b", "a{#+ c +#}\nb",
    "{% raw %}\n a {{ b }}\n{% endraw %}\nc", "  {% raw -%}\n a\n  {%- endraw %}\nc", "{%- raw %} {% endraw +%}\nz",
    "{% if true %}a{% else %}b{% endif %}\n\nx", "\t{% if true %}\n\t\tq\n\t{% endif %}\n", "a{{ 1 }}\n{{ 2 }}\n", "{ {a} {x {", "}} %} #}",
    "{{ {'a': {'b': 1}} }}", "{{ {'a': '}}'} }}", "{{ '%}' }}{% if '%}' %}x{% endif %}", "{{\n1\n+\n2\n}}", "{{ 'multi\nline' }}",
    "{%\nif true\n%}x{%\nendif\n%}", "line1\nline2 {% if a %}\nx{% endif %}\n  tail", "{{ 1 }}\n", "\n", "", " ", "x\n\n", "{%- if true %}\n\n a\n{%- endif %}\n",
    "a\n   {%- set x = 1 %}\n   b", "a\n   {%- set x = 1 -%}\n   b", "\u00a0{%- if true %}x{% endif -%}\u2003y", "{{ a -}}\n\n{{ b }}",
    "{#", "{% raw %}", "{% raw %}{% endraw", "{{ 1 }", "{% if a %}{% else %}{% else %}{% endif %}", "{% if a %}{% endfor %}",
    "x{% set y = 1 -%}\n  \n z", "{% if true -%} a {%- endif %} b", "  a {% if true %} b {% endif %} c  ", "1{% if true %}\n{% endif %}\n2",
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + (m['content'] or '') + '<|end|>\\n' }}{% endfor %}",
    "{%- for message in messages %}\n    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}",
    "{{ messages[0]['content'] | trim + '\\n\\n' }}", "{{ bos_token }}{% if tools %}T{% endif %}{{ tools is none }}{{ tools is defined }}",
    "{% macro r(t, n=0) %}{% if t is mapping %}{\n{% for k, v in t.items() %}{{ '  ' * (n + 1) }}{{ k }}: {{ r(v, n + 1) }}{% endfor %}}\n{% else %}{{ t }}\n{% endif %}{% endmacro %}{{ r({'a': 1, 'b': {'c': 2}}) }}",
    "{{ '\\u00e9' }}{{ '\\U0001F389' }}{{ \"a\\\nb\" }}", "{{ 'tab\\there' }}", "{{ 5 // 0 }}", "{{ 'x'.nosuch() }}", "{{ none() }}", "{{ 5() }}", "{{ 'a'.upper(1) }}",
    "{{ s.upper(x=1) }}", "{{ d.get() }}", "{{ l|join(1, 2, 3) }}", "{{ l|sort(nope=1) }}", "{{ 'abc'|replace('a') }}", "{{ dict(1) }}", "{{ -s }}", "{{ -none }}", "{{ l ** 2 }}",
    "{{ {[1]: 2} }}", "{{ s[0:'a'] }}", "{{ 1 is divisibleby 0 }}", "{{ l|batch(2)|length }}", "{{ users|sum(attribute='name') }}", "{{ users|map(attribute='name', nope=1)|list }}",
]


# Jinja answers the empty text to these; stretto refuses them, because they can only be mistakes:
# slices of constants that are no sequences, an empty subscript, a comment or raw that never ends.
STRICTER = ["{{ none[1:] }}", "{{ a[] }}", "{#", "{% raw %}"]


class TemplateError(Exception):
    pass


def environment():
    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

        def _run(self, caller):
            return caller()

    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENV = environment()


def row(template, variables):
    if template in STRICTER:
        return {"template": template, "error": "stricter than Jinja"}
    out = {"template": template}
    if variables is not SHARED:
        out["vars"] = variables
    try:
        text = ENV.from_string(template).render(**copy.deepcopy(variables))     # |indent changes a list
        text.encode()
        if " at 0x" in text:
            return None
        out["expected"] = text
    except Exception as e:                                # whatever Jinja or Python raised is the answer
        out["error"] = f"{type(e).__name__}: {e}"[:200]
    return out


class Random:
    """Expressions that are often, not always, meaningful."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *xs):
        return self.r.choice(xs)

    def atom(self):
        return self.pick("a", "b", "f", "z", "s", "e", "u", "w", "t", "n", "l", "m", "d", "users", "messages", "0", "1",
                         "2", "-1", "1.5", "'x'", "'a,b'", "''", "true", "none", "[1, 2, 3]", "{'k': 1}", "(1, 2)", "qq",
                         "range(4)", "'Ünï cödé'", "[]", "'%s-%s'", "1e3")

    def filter(self):
        return self.pick("upper", "lower", "title", "capitalize", "trim", "length", "string", "int", "float", "list", "first",
                         "last", "sort", "unique|list", "reverse|list", "join(',')", "join", "sum", "min", "max", "abs",
                         "round", "round(1)", "tojson", "tojson(indent=2)", "default('D')", "default('D', true)", "e",
                         "map('upper')|list", "map(attribute='name')|list", "select|list", "reject('none')|list",
                         "selectattr('on')|list", "items|list", "dictsort", "batch(2)|list", "slice(2)|list", "indent",
                         "wordcount", "truncate(5)", "replace('a', 'b')", "sort(reverse=true)", "groupby('age')|length",
                         "center(9)", "format(1, 2)", "rejectattr('on', 'defined')|list", "map('string')|join('|')")

    def test(self):
        return self.pick("defined", "undefined", "none", "string", "number", "integer", "float", "mapping", "sequence",
                         "iterable", "boolean", "true", "false", "odd", "even", "divisibleby 2", "in [1, 'x']", "eq 1",
                         "gt 0", "lower", "upper", "callable", "escaped")

    def method(self):
        return self.pick(".upper()", ".strip()", ".split()", ".split(',')", ".items()|list", ".keys()|list", ".get('k')",
                         ".get('x', 3)", ".replace('l', '')", ".title()", ".find('o')", ".startswith('H')", ".x", ".name",
                         ".0", "[0]", "[-1]", "['x']", "[1:]", "[:2]", "[::-1]", "[1]", ".count('l')", ".values()|list",
                         ".splitlines()", ".isalpha()", ".rsplit(' ', 1)", ".capitalize()", ".zfill(5)", ".index(1)")

    def expr(self, depth):
        if depth == 0:
            return self.atom()
        k = self.r.randrange(10)
        one = lambda: self.expr(depth - 1)
        if k < 2:
            return f"{one()} {self.pick('+', '-', '*', '/', '//', '%', '~', '~', '+')} {one()}"
        if k == 2:
            return f"({one()} {self.pick('==', '!=', '<', '>=', 'in', 'not in', 'and', 'or')} {one()})"
        if k == 3:
            return f"({one()} if {one()} else {one()})"
        if k < 6:
            return f"({one()})|{self.filter()}"
        if k == 6:
            return f"({one()}) is {self.pick('', 'not ')}{self.test()}"
        if k == 7:
            return f"[{one()}, {one()}]"
        return f"({one()}){self.method()}"

    def template(self):
        return "{{ " + self.expr(self.r.randrange(1, 4)) + " }}"


def random_rows(n, seed):
    gen = Random(seed)
    seen, out = set(), []
    while len(out) < n:
        t = gen.template()
        if t in seen:
            continue
        seen.add(t)
        r = row(t, SHARED)
        if r and ("Markup(" in json.dumps(r) or re.search(r"\[(1:|:2|::-1)\]", t)):   # see STRICTER
            continue
        # Half of what a random text raises is one of two sentences; keep every fourth.
        if r is None or len(json.dumps(r)) > 600 or ("error" in r and gen.r.randrange(4)):
            continue
        out.append(r)
    return out


def main():
    rows = [{"shared": SHARED, "now": NOW.isoformat(), "jinja2": jinja2.__version__}]
    if len(sys.argv) == 4 and sys.argv[1] == "--random":
        rows += random_rows(int(sys.argv[2]), int(sys.argv[3]))
    else:
        rows += [r for t in SNIPPETS.strip("\n").split("\n") for r in [row(t, SHARED)] if r]
        rows += [r for t in BLOCKS for r in [row(t, SHARED)] if r]
        rows += random_rows(400, 1)
    for r in rows:
        print(json.dumps(r, ensure_ascii=False))


if __name__ == "__main__":
    main()
