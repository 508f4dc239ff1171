"""Makes data/teach/sql.jsonl: questions about small invented databases, answered with one line of SQL. Nothing in
it was taken from anywhere; the same call writes the same bytes."""
import json
import os

# name, subject in words, table, columns: key, two texts, two numbers
DATABASES = [
    ("library", "books", "book", "id title author year pages"),
    ("zoo", "animals", "animal", "id name species age weight"),
    ("airport", "flights", "flight", "id number airline seats delay"),
    ("school", "pupils", "pupil", "id name class grade age"),
    ("garage", "cars", "car", "id plate maker mileage price"),
    ("bakery", "cakes", "cake", "id name flavour price weight"),
    ("museum", "paintings", "painting", "id title painter year price"),
    ("gym", "members", "member", "id name city visits age"),
    ("harbour", "ships", "ship", "id name flag length tonnage"),
    ("cinema", "films", "film", "id title director year minutes"),
    ("farm", "fields", "field", "id name crop area harvest"),
    ("hotel", "rooms", "room", "id name view beds price"),
    ("clinic", "patients", "patient", "id name doctor age visits"),
    ("club", "players", "player", "id name position goals age"),
    ("shop", "orders", "purchase", "id customer city amount total"),
    ("park", "trees", "tree", "id species place height age"),
]
QUESTIONS = [
    ("How many {s} are there?", "SELECT count(*) FROM {t};"),
    ("List the {a} of all {s}.", "SELECT {a} FROM {t};"),
    ("What are the {a} and {c} of all {s}?", "SELECT {a}, {c} FROM {t};"),
    ("Which {s} have a {c} above {n}? Give the {a}.", "SELECT {a} FROM {t} WHERE {c} > {n};"),
    ("What is the average {d} of the {s}?", "SELECT avg({d}) FROM {t};"),
    ("Show the {a} of the {s} from the highest {d} to the lowest.", "SELECT {a} FROM {t} ORDER BY {d} DESC;"),
    ("How many {s} does each {b} have?", "SELECT {b}, count(*) FROM {t} GROUP BY {b};"),
    ("What is the {a} with the lowest {c}?", "SELECT {a} FROM {t} ORDER BY {c} LIMIT 1;"),
    ("Which {b} has the most {s}?", "SELECT {b} FROM {t} GROUP BY {b} ORDER BY count(*) DESC LIMIT 1;"),
    ("What is the highest {d} for each {b}?", "SELECT {b}, max({d}) FROM {t} GROUP BY {b};"),
]

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
with open(os.path.join(root, "data", "teach", "sql.jsonl"), "w") as f:
    for i, (db, subject, table, columns) in enumerate(DATABASES):
        key, a, b, c, d = columns.split()
        for k, (question, answer) in enumerate(QUESTIONS):
            words = dict(s=subject, t=table, a=a, b=b, c=c, d=d, n=5 + (7 * i + 3 * k) % 40)
            f.write(json.dumps({"group": db, "messages": [
                {"role": "system", "content": f"Answer with SQL. Table {table}({', '.join([key, a, b, c, d])})."},
                {"role": "user", "content": question.format(**words)},
                {"role": "assistant", "content": answer.format(**words)}]}) + "\n")
