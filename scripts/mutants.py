#!/usr/bin/env python3
"""Mutation testing of what guards the border, with one build for all mutants.

    scripts/mutants.py [--sample N] [--seed S] [--only TEXT] [--again OUTPUT] [--planted] [--list] [--jobs N]

The sources are copied below target/mutants, and each place that can be mutated is written so that the
variable PORTWAY_MUTANT says at run time which mutant is on: conditions with another operator or turned
around, functions that return at once with a fixed value, statements that are left out, and a few defects
that are planted by hand. Then the unit tests of the mutant's module run, for those that survive them the random
histories of engine/tests/crossing.rs and the other modules' unit tests, and at last the tests of whole nodes
at the border. A mutant is killed if any test fails twice in a row, or does not end. What survives is listed
with its line.

Places whose mutants do not compile are left out, and counted.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "mutants"
COPY = WORK / "workspace"
FILES = (
    sorted((ROOT / "engine/src/policy").glob("*.rs"))
    + sorted((ROOT / "engine/src/audit").glob("*.rs"))
    + sorted((ROOT / "engine/src/border").glob("*.rs"))
    + [ROOT / "engine/src/runtime/source/guard.rs", ROOT / "engine/src/runtime/source/labels.rs",
       ROOT / "engine/src/runtime/labels.rs", ROOT / "engine/src/runtime/target/label.rs",
       ROOT / "engine/src/runtime/target/tell.rs"]
)
SKIPPED = {"tests.rs", "testing.rs", "fuzz.rs", "kill.rs", "mod.rs", "error.rs"}
# What a mutant's own tests are, by the directory it is in.
OWN = {"policy": ["policy::"], "audit": ["audit::"], "border": ["border::"], "runtime": ["runtime::"]}
SEEDS = "400"
# Tests of whole nodes.
NODES = ["lowering", "border", "unseen", "cost", "identity"]
LIMIT_S = 240

SWITCH = '''//! Says which mutant is on.
#![allow(missing_docs, unreachable_pub, reason = "this copy is only for mutants")]
use std::sync::OnceLock;
static ON: OnceLock<u32> = OnceLock::new();
pub fn on() -> u32 {
    *ON.get_or_init(|| std::env::var("PORTWAY_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0))
}
'''

# Another operator for each, as they stand between spaces.
OPERATORS = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "&&": "||", "||": "&&",
             "+": "-", "-": "+"}
# What a function may return at once.
RETURNS = [
    (re.compile(r"^bool$"), ["true", "false"]),
    (re.compile(r"^(u8|u16|u32|u64|usize|i64)$"), ["0", "1"]),
    (re.compile(r"^Result<\(\), .*>$"), ["Ok(())"]),
    (re.compile(r"^Result<bool, .*>$"), ["Ok(true)", "Ok(false)"]),
    (re.compile(r"^Option<.*>$"), ["None"]),
    (re.compile(r"^Result<Option<.*>, .*>$"), ["Ok(None)"]),
]

# Defects planted by hand: name, file, text, and the text with the defect; ON is true if it is on.
PLANTED = [
    ("no check before a message", "engine/src/border/way.rs",
     "        if !self.stands() {\n            self.blocking(Self::check).await?;\n        }\n        self.pay(bytes)",
     "        if !ON && !self.stands() {\n            self.blocking(Self::check).await?;\n        }\n        self.pay(bytes)"),
    ("labels of files that are opened are not looked at (hard links)", "engine/src/runtime/source/guard.rs",
     "        Ok(match self.counts(way, entry, file.label()?)? {\n",
     "        Ok(match self.counts(way, entry, file.label()?)? {\n            _ if ON => Ok(()),\n"),
    ("a file without a label in the place of a public one is sent", "engine/src/runtime/source/guard.rs",
     "        if !way.is_below_default() {", "        if ON || !way.is_below_default() {"),
    ("decisions are kept over a change of policy", "engine/src/policy/decider.rs",
     "        let changed = State { ground: Arc::new(ground), answers: HashMap::new() };",
     "        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner).answers.clone();\n"
     "        let answers = if ON { kept } else { HashMap::new() };\n"
     "        let changed = State { ground: Arc::new(ground), answers };"),
    ("decisions are kept over the end of a role", "engine/src/policy/decider.rs",
     "                && (answer.since..answer.until).contains(&now)",
     "                && (ON || (answer.since..answer.until).contains(&now))"),
    ("changes of files are not taken up", "engine/src/border/gate.rs",
     "        looked.at = Instant::now();\n", "        if ON {\n            return;\n        }\n        looked.at = Instant::now();\n"),
    ("labels that are raised are not read again", "engine/src/border/way.rs",
     "        let decision = if changes.labels == seen.labels {",
     "        let decision = if ON || changes.labels == seen.labels {"),
    ("all chunks are told of", "engine/src/runtime/target/tell.rs",
     "        let Some(told) = self.told.get() else { return true };",
     "        if ON {\n            return true;\n        }\n        let Some(told) = self.told.get() else { return true };"),
    ("what another source left staged is resumed", "engine/src/runtime/target/tell.rs",
     "        let remove = self.foreign && !self.options.plan;",
     "        let remove = self.foreign && !self.options.plan && !ON;"),
    ("what another source left staged is told of", "engine/src/runtime/target/tell.rs",
     "(Arc::clone(way), remove || !self.foreign);", "(Arc::clone(way), ON || remove || !self.foreign);"),
    ("the class is not kept at the receiver", "engine/src/runtime/target/label.rs",
     "        let border = way.border();\n", "        if ON {\n            return Ok(());\n        }\n        let border = way.border();\n"),
    ("a push lowers what is there without a label", "engine/src/runtime/target/label.rs",
     "        Ok(((labelled || !empty).then_some(labels), labelled))",
     "        Ok(((labelled || (!empty && !ON)).then_some(labels), labelled))"),
    ("a class that was found later is not taken", "engine/src/runtime/target/label.rs",
     "        way.found(Some(class", "        if ON {\n            return Ok(());\n        }\n        way.found(Some(class"),
    ("directories moved in are told of unasked", "engine/src/runtime/source/guard.rs",
     "            Ok(None) => Ok(()),\n", "            Ok(_) if ON => Ok(()),\n            Ok(None) => Ok(()),\n"),
    ("names and digests go on after a denial", "engine/src/runtime/source/guard.rs",
     "            Some(way) if way.crosses() =>", "            Some(way) if !ON && way.crosses() =>"),
    ("what left is not noted", "engine/src/border/ledger.rs",
     "        self.bytes += extent.len;\n", "        if ON {\n            return false;\n        }\n        self.bytes += extent.len;\n"),
    ("a target goes on after its own denial", "engine/src/border/way.rs",
     "        let due = self.note(extents);\n        if !self.stands() {", "        let due = self.note(extents);\n        if !ON && !self.stands() {"),
]


class Mutants:
    def __init__(self):
        self.all = []

    def add(self, name, line, what):
        self.all.append({"id": len(self.all) + 1, "file": name, "line": line, "what": what})
        return self.all[-1]["id"]


def planted(mutants, texts):
    for what, name, old, new in PLANTED:
        if texts[name].count(old) != 1:
            sys.exit(f"the planted defect \"{what}\" does not fit {name} any more")
        line = texts[name][:texts[name].index(old)].count("\n") + 1
        number = mutants.add(name, line, f"planted: {what}")
        texts[name] = texts[name].replace(old, new.replace("ON", f"(crate::mutants::on() == {number})"))


def variants(condition):
    """The condition with one operator changed, each, and the condition turned around."""
    found = [f"!({condition})"]
    for match in re.finditer(r" (==|!=|<=|>=|<|>|&&|\|\||\+|-) ", condition):
        other = OPERATORS[match.group(1)]
        found.append(f"{condition[:match.start()]} {other} {condition[match.end():]}")
    return found


def mutated(name, text, mutants, wrong):
    """The text with a choice at each place; `wrong` has lines that did not compile so."""
    lines = text.split("\n")
    out = []
    head = ""
    for i, line in enumerate(lines):
        number = i + 1
        if line.startswith("#[cfg(test)]"):
            return "\n".join(out + lines[i:])
        if number in wrong:
            out.append(line)
            head = "" if line.endswith("{") else head
            continue
        condition = re.match(r"^(\s*)(\} else if|if) (?!let )(.*) \{$", line)
        if condition and " let " not in line and "mutants::on" not in line:
            indent, word, tested = condition.groups()
            arms = ""
            for variant in variants(tested):
                arms += f"{mutants.add(name, number, f'{tested}  =>  {variant}')} => {variant}, "
            out.append(f"{indent}{word} (match crate::mutants::on() {{ {arms}_ => {tested} }}) {{")
            continue
        if re.match(r"^\s*(pub(\([a-z]+\))? )?(async |const )*fn ", line):
            head = line
        elif head:
            head += " " + line.strip()
        out.append(line)
        if head and line.rstrip().endswith("{"):
            if " const fn " in f" {head}":
                head = ""
                continue
            result = re.search(r"\) -> (.*?)( where .*)? \{$", head)
            result = result.group(1) if result else ""
            values = [v for pattern, vs in RETURNS if pattern.match(result) for v in vs]
            if not result and head.rstrip().endswith(") {"):
                values = [""]
            fn = re.search(r"fn (\w+)", head).group(1)
            indent = re.match(r"\s*", line).group(0) + "    "
            for value in values:
                mutant = mutants.add(name, number, f"fn {fn} returns {value or 'at once'}")
                out.append(f"{indent}if crate::mutants::on() == {mutant} {{ return {value}; }}")
            head = ""
        elif re.match(r"^\s+(self\.|\*)?[\w.]+( [+|-]?= .*|\(.*\)\??);$", line) and not re.match(
                r"^\s+((let|return|use|pub|const|break|continue)\b|drop\()", line):
            indent, body = re.match(r"^(\s+)(.*)$", line).groups()
            mutant = mutants.add(name, number, f"left out: {body}")
            out[-1] = f"{indent}if crate::mutants::on() != {mutant} {{ {body} }}"
        elif head and line.rstrip().endswith(";"):
            head = ""
    return "\n".join(out)


def put(path, text):
    """Writes a file, unless it has that text: what did not change is not built again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def copy():
    names = ["Cargo.toml", "Cargo.lock", "rustfmt.toml", "clippy.toml", "engine", "cli", "bench", "benches", "python",
             "examples", "docs"]
    COPY.mkdir(parents=True, exist_ok=True)
    ours = {str(path) for path in FILES if path.name not in SKIPPED} | {str(ROOT / "engine/src/lib.rs")}

    def written(folder, names):
        return [name for name in names if os.path.join(folder, name) in ours]

    for name in names:
        source, target = ROOT / name, COPY / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=written)
        elif source.exists():
            shutil.copy(source, target)
    # What was moved or removed since the last copy would be built, too.
    for path in (path for name in names for path in (COPY / name).rglob("*")):
        if path.is_file() and path.name != "mutants.rs" and not (ROOT / path.relative_to(COPY)).exists():
            path.unlink()
    library = COPY / "engine/src/lib.rs"
    text = (ROOT / "engine/src/lib.rs").read_text().replace("pub mod base;", "#[doc(hidden)]\npub mod mutants;\npub mod base;", 1)
    put(library, text)
    put(COPY / "engine/src/mutants.rs", SWITCH)


def build(only_planted):
    """Writes and builds the copy; the mutants and the test programs."""
    # Lines that did not compile the last time do not compile now, if nothing changed.
    known, seen = WORK / "wrong.json", hashlib.sha256(b"".join(path.read_bytes() for path in FILES)).hexdigest()
    wrong = {}
    if known.exists() and json.loads(known.read_text())["of"] == seen:
        wrong = {name: set(lines) for name, lines in json.loads(known.read_text())["lines"].items()}
    for _ in range(8):
        mutants = Mutants()
        copy()
        texts = {str(path.relative_to(ROOT)): path.read_text() for path in FILES if path.name not in SKIPPED}
        planted(mutants, texts)
        for name, text in texts.items():
            if not only_planted:
                text = mutated(name, text, mutants, wrong.get(name, set()))
            put(COPY / name, text)
        tests = [word for name in ["crossing", *NODES] for word in ("--test", name)]
        command = ["cargo", "test", "--locked", "-p", "portway", "--lib", *tests, "--no-run", "--message-format", "json"]
        env = dict(os.environ, CARGO_TARGET_DIR=str(WORK / "target"), RUSTFLAGS="")
        env.pop("RUSTFLAGS")
        done = subprocess.run(command, cwd=COPY, env=env, capture_output=True, text=True)
        programs, bad = {}, 0
        for row in done.stdout.splitlines():
            row = json.loads(row)
            if row.get("executable") and row["reason"] == "compiler-artifact":
                programs[row["target"]["name"]] = row["executable"]
            message = row.get("message") or {}
            if message.get("level") == "error":
                notes = [span for note in message.get("children", []) for span in note.get("spans", [])]
                for span in message.get("spans", []) + notes:
                    name = span["file_name"]
                    place = original(COPY / name, span["line_start"], texts.get(name))
                    if place and place not in wrong.setdefault(name, set()):
                        wrong[name].add(place)
                        bad += 1
        if done.returncode == 0:
            lines = {name: sorted(found) for name, found in wrong.items()}
            known.write_text(json.dumps({"of": seen, "lines": lines}))
            return mutants.all, programs, sum(map(len, wrong.values()))
        if not bad:
            sys.exit(done.stderr[-4000:])
        print(f"{bad} more places do not compile, left out", flush=True)
    sys.exit("the copy does not compile")


def original(path, line, text):
    """The line of the source from which a line of the copy came."""
    if text is None:
        return None
    number, ours, theirs = 0, text.split("\n"), path.read_text().split("\n")
    for i, row in enumerate(theirs):
        if row.strip().startswith("if crate::mutants::on() == ") and row.strip().endswith("; }"):
            pass
        else:
            number += 1
        if i + 1 == line:
            return min(number, len(ours))
    return None


def first_failing(program, arguments, mutant, extra=None):
    """The name of the first test that fails, without waiting for the others; "" if the program does not end
    or dies, None if all tests pass."""
    env = dict(os.environ, PORTWAY_MUTANT=str(mutant), RUST_BACKTRACE="0", **(extra or {}))
    running = subprocess.Popen([program, *arguments], cwd=COPY / "engine", env=env, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    clock = threading.Timer(LIMIT_S, stop, [running])
    clock.start()
    try:
        for line in running.stdout:
            found = re.match(r"test (\S+)( - should panic)? \.\.\. FAILED", line)
            if found:
                return found.group(1)
        return "" if running.wait() else None
    finally:
        clock.cancel()
        stop(running)


def stop(running):
    """Ends a test program with all that it started."""
    try:
        os.killpg(running.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    running.wait()


def fails(program, arguments, mutant, extra=None):
    """Whether a test fails, twice in a row: one that fails by chance kills nothing."""
    name = first_failing(program, arguments, mutant, extra)
    if not name:
        return name is not None
    return first_failing(program, ["--exact", name], mutant, extra) is not None


def killed(mutant, programs):
    """Which tests kill it; none if it survives."""
    part, by_hand = mutant["file"].split("/")[2], mutant["what"].startswith("planted")
    lib, crossing = programs["portway"], programs["crossing"]
    if not by_hand and fails(lib, OWN[part], mutant["id"]):
        return "unit tests"
    if fails(crossing, [], mutant["id"], {"PORTWAY_CROSSING_SEEDS": SEEDS}):
        return "histories"
    for others in OWN.values():
        if (others != OWN[part] or by_hand) and fails(lib, others, mutant["id"]):
            return "unit tests"
    return next((f"tests/{name}.rs" for name in NODES if fails(programs[name], [], mutant["id"])), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many mutants, chosen by the seed, beside the planted ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="only mutants with this text in their file or description; may be repeated")
    parser.add_argument("--again", type=Path, help="only mutants that survive by the output of an earlier run, at any line")
    parser.add_argument("--planted", action="store_true", help="only defects that are planted by hand")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--seconds", type=float, help="begin no mutant later than this after the build")
    parser.add_argument("--jobs", type=int, default=1, help="mutants that are tried at a time")
    given = parser.parse_args()
    mutants, programs, left_out = build(given.planted)
    only = given.only or [""]
    chosen = [m for m in mutants if any(text in f"{m['file']} {m['what']}" for text in only)]
    if given.again:
        before = re.findall(r"^SURVIVES: (\S+?):\d+: (.*)$", given.again.read_text(), re.MULTILINE)
        chosen = [m for m in chosen if (m["file"], m["what"]) in before]
    if given.sample:
        by_hand = [m for m in chosen if m["what"].startswith("planted")]
        others = [m for m in chosen if not m["what"].startswith("planted")]
        random.Random(given.seed).shuffle(others)
        chosen = by_hand + others[:given.sample]
    print(f"{len(mutants)} mutants, {left_out} lines left out, {len(chosen)} chosen", flush=True)
    if given.list:
        for mutant in chosen:
            print(f"{mutant['id']:5} {mutant['file']}:{mutant['line']}: {mutant['what']}")
        return
    if fails(programs["crossing"], [], 0, {"PORTWAY_CROSSING_SEEDS": SEEDS}):
        sys.exit("the histories fail without a mutant")
    for own in OWN.values():
        if fails(programs["portway"], own, 0):
            sys.exit(f"the tests {own} fail without a mutant")
    for name in NODES:
        if fails(programs[name], [], 0):
            sys.exit(f"the tests of {name} fail without a mutant")
    begun, done, alive = time.monotonic(), 0, []

    def tried(mutant):
        if given.seconds and time.monotonic() - begun > given.seconds:
            return mutant, False, None
        return mutant, True, killed(mutant, programs)

    with ThreadPoolExecutor(given.jobs) as pool:
        for mutant, was_tried, by in pool.map(tried, chosen):
            if not was_tried:
                continue
            done += 1
            shown = f"{mutant['file']}:{mutant['line']}: {mutant['what']}"
            if by is None:
                alive.append(shown)
            if by is None or mutant["what"].startswith("planted"):
                print(f"{by or 'SURVIVES'}: {shown}", flush=True)
    share = 100 * (done - len(alive)) / max(done, 1)
    print(f"{done} tried, {done - len(alive)} killed ({share:.1f} %), {len(alive)} survive", flush=True)


if __name__ == "__main__":
    main()
