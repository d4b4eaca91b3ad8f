"""Give CPython's tests of multiprocessing for processes that are started by spawn."""

import test._test_multiprocessing

test._test_multiprocessing.install_tests_in_module_dict(globals(), "spawn")
