#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The completion scripts: a real bash completes lines with one, and a real zsh (where there is one) on a terminal.
Whatever the help tells of is offered."""
import os
import re
import shutil
import subprocess
import sys
import unittest

from program import PROGRAM, Case

BREAKS = " \t\n\"'><=;|&(:"  # bash's own
BASH = r'''
source <(supermachine completion bash) || exit 1
COMP_WORDBREAKS=$1
shift
compopt() { :; }  # there is no completion under way here
for line; do
    COMP_LINE=$line COMP_POINT=${#line}
    COMPREPLY=()
    _supermachine
    echo "${COMPREPLY[*]}"
done
'''
# Each line is written as typed, with a Tab, and kept as the editor has it then.
ZSH = r'''
zmodload zsh/zpty
zpty -b z zsh -f -i
drain() { for n in {1..$1}; do sleep 0.1; zpty -rt z x; done }
zpty -w z "autoload -Uz compinit; compinit -u -D; source <(supermachine completion zsh)"
zpty -w z "keep() { print -r -- \$BUFFER >>$1/kept; BUFFER= }; zle -N keep; bindkey '^X' keep"
zpty -w z "bindkey '^I' complete-word; : >$1/ready"
for n in {1..600}; do [[ -e $1/ready ]] && break; drain 1; done
for line in "${@[2,-1]}"; do
    lines=$(cat $1/kept 2>/dev/null | wc -l)
    zpty -w -n z "$line"$'\t'; drain 5; zpty -w -n z $'\C-x'
    for n in {1..300}; do (($(cat $1/kept 2>/dev/null | wc -l) > lines)) && break; drain 1; done
done
zpty -d z
cat $1/kept
'''


class Completion(Case):
    def env(self, **more):
        path = os.path.dirname(os.path.abspath(PROGRAM)) + ":" + os.environ["PATH"]
        return super().env(PATH=path, **more)

    def shell(self, argv):
        p = subprocess.run(argv, cwd=self.dir, env=self.env(), capture_output=True, text=True, timeout=240,
                           stdin=subprocess.DEVNULL)
        self.assertEqual((p.returncode, p.stderr), (0, ""), p.stdout)
        return p.stdout.split("\n")[:-1]

    def bash(self, *lines, breaks=BREAKS):
        """What is offered for each line."""
        replies = self.shell(["bash", "--norc", "-c", BASH, "bash", breaks, *("supermachine " + x for x in lines)])
        self.assertEqual(len(replies), len(lines))
        return [x.split() for x in replies]

    def offers(self, line, *words, **how):
        self.assertEqual(sorted(self.bash(line, **how)[0]), sorted(words), line)

    def commands(self):
        """{name: its options as (names, takes an argument)}, out of the help."""
        found = {}
        text = self.call("help")[1].decode().partition("Commands:\n")[2].partition("\n\n")[0]
        for name in re.findall(r"^  ([a-z]+) ", text, re.M):
            lines = self.call("help", name)[1].decode().partition("Options:\n")[2].partition("\n\n")[0].split("\n")
            options = [re.match(r" +(?:(-\w)(?:, )?)?(--[\w-]+)?( \S+)?", x) for x in lines if x.startswith("  ")]
            found[name] = [([n for n in m.groups()[:2] if n], bool(m[3])) for m in options]
        self.assertGreater(len(found), 10)
        return found

    def test_all_of_the_help(self):
        commands = self.commands()
        self.offers("", *commands)
        for (name, options), offered in zip(commands.items(), self.bash(*(f"{c} -" for c in commands))):
            self.assertEqual(sorted(offered), sorted(n for names, _ in options for n in names), name)

    def test_options_and_their_arguments(self):
        self.offers("ru", "run")
        self.offers("run --en", "--env", "--engine", "--entrypoint")
        for line in ("run --engine ", "run -it --memory 64 --engine ", "bake --engine=", "run -e a=b --engine="):
            self.offers(line, "auto", "kvm", "soft")
        self.offers("run --engine=s", "soft")
        self.offers("run --engine=s", "--engine=soft", breaks=" \t\n")
        self.offers("run --memory ")
        self.offers("run -w /")  # the guest's folders
        self.offers("run --engine soft --cpu ", "v2", "v3")
        self.offers("completion ", "bash", "zsh")
        self.offers("help ver", "verify", "version")
        self.offers("nosuch ")
        self.offers("run busybox --en")  # the guest's command has its own
        self.offers("run -- busybox ")

    def test_files(self):
        os.makedirs(self.dir + "/layout/blobs")
        open(self.dir + "/label", "w").close()
        self.offers("run --kernel la", "label", "layout")
        self.offers("load -i lab", "label")
        self.offers("run oci:la", "label", "layout")
        self.offers("run oci:layout/b", "layout/blobs")
        self.offers("run oci:la", "oci:label", "oci:layout", breaks=" \t\n")

    def test_images_and_vms(self):
        layout = os.environ["SM_BUILD_DIR"] + "/images/busybox"
        self.assertEqual(self.call("load", "-i", layout, "--name", "example.org:5000/app:1.2")[0], 0)
        self.offers("run exa", "example.org:5000/app:1.2")
        self.offers("run example.org:5000/a", "5000/app:1.2")
        self.offers("rmi --json example.org:5000/app:", "1.2")
        self.offers("inspect example.org:5000/app:", "example.org:5000/app:1.2", breaks=" \t\n")
        self.offers("run b", "busybox")
        self.assertEqual(self.run_vm("-d", "--name", "completed", "busybox", "sleep", "1000")[0], 0)
        try:
            self.offers("stop c", "completed")
            self.offers("exec -it c", "completed")
        finally:
            self.call("rm", "-f", "completed")
        self.offers("stop c")

    def test_refusals(self):
        self.refused("completion", words=("one shell",))
        self.refused("completion", "bash", "zsh", words=("one shell",))
        self.refused("completion", "fish", words=("fish", "bash and zsh"))

    @unittest.skipUnless(shutil.which("zsh"), "no zsh")
    def test_zsh(self):
        open(self.dir + "/label", "w").close()
        lines = {"ru": "run ", "run --memory 64 bus": "run --memory 64 busybox ", "run --engine=so": "run --engine=soft ",
                 "bake --warmu": "bake --warmup=", "help vers": "help version ", "run oci:lab": "run oci:label ",
                 "completion ba": "completion bash ", "run busybox --en": "run busybox --en"}
        got = self.shell(["zsh", "-f", "-c", ZSH, "zsh", self.dir, *("supermachine " + x for x in lines)])
        self.assertEqual([x.rstrip() for x in got], ["supermachine " + x.rstrip() for x in lines.values()])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
