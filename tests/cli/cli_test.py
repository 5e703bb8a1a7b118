#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Black-box tests of the program: cli_test.py PROGRAM [TEST...]. Needs $SM_BUILD_DIR and
$SM_SOURCE_DIR."""
import program  # first: sets the path
from images import run_tests
from refusal_test import *
from run_test import Commands, Ends, Images as RunImages, OtherCommands
from terminal_test import Signals, Terminals

if __name__ == "__main__":
    del Case  # itself no test
    run_tests()
