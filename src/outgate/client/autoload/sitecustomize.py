"""Load outgate's client into this interpreter when it first imports _socket.

This folder is put in front of PYTHONPATH by "outgate run". Nothing is installed into the program's environment: the
client is loaded by its file's place. Whatever sitecustomize the environment has of its own is run as well.
"""

# Any Python may come by here, also one too old for the client: this file stays readable for all of them.
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _chain():
    """Run the sitecustomize that would have been found without us."""
    ours = sys.modules.pop("sitecustomize", None)
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if os.path.abspath(entry or ".") != _HERE]
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", None) != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


def _package_spec():
    from _frozen_importlib_external import spec_from_file_location  # what importlib.util brings along costs a start

    package = os.path.dirname(os.path.dirname(_HERE))
    return spec_from_file_location(
        "outgate", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )


class _Finder(object):
    """Find _socket: the interpreter's own, with the stand-in put in its place; and outgate, for its exceptions."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname == "outgate":
            return _package_spec()
        if fullname == "http.client":  # it imports socket in its midst, when it could not be waited for any more
            __import__("_socket")
            return sys.modules["outgate.client.imports"].find(fullname, path, target)
        if fullname != "_socket":
            return None
        sys.meta_path.remove(cls)
        from importlib.machinery import ModuleSpec
        from importlib.util import find_spec

        return ModuleSpec("_socket", _Loader(find_spec("_socket")))


class _Loader(object):
    def __init__(self, native):
        self.native = native

    def create_module(self, spec):
        from importlib.util import module_from_spec

        native = module_from_spec(self.native)
        sys.modules["_socket"] = native  # for the client's own modules, which are built on it
        self.native.loader.exec_module(native)
        try:
            return _client().module()
        except (AttributeError, ImportError) as error:  # of an interpreter that has changed what the client is built on
            del sys.modules["_socket"]  # who tries again finds no way round
            sys.meta_path.insert(0, _Finder)
            version = "%d.%d" % sys.version_info[:2]
            raise ImportError("outgate: the client does not work with Python %s: %s" % (version, error))

    def exec_module(self, module):
        module.__spec__.origin = self.native.origin


def _client(name="install"):
    """Import a module of outgate.client from the tree this file is in."""
    if "outgate" not in sys.modules:
        from _frozen_importlib import module_from_spec

        spec = _package_spec()
        known = module_from_spec(spec)
        sys.modules["outgate"] = known
        spec.loader.exec_module(known)
    # Compiled files are kept even where the program switched that off: it would pay for the compiling at every start.
    dont, prefix = sys.dont_write_bytecode, sys.pycache_prefix
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ.get("OUTGATE_PYCACHE") or prefix
    try:
        __import__("outgate.client." + name)
    finally:
        sys.dont_write_bytecode, sys.pycache_prefix = dont, prefix
    return sys.modules["outgate.client." + name]


def _load():
    if sys.version_info < (3, 9):
        sys.stderr.write(
            "outgate: Python %d.%d is too old for the client (3.9 or newer); this program's sockets are not the gate's\n"
            % sys.version_info[:2]
        )
        return
    if "_socket" not in sys.modules:
        sys.meta_path.insert(0, _Finder)
    else:  # a .pth file imported socket before us
        for problem in _client().patch():
            sys.stderr.write("outgate: " + problem + "\n")
    if "OUTGATE_FOREIGN" in os.environ:
        _client("foreign").watch()


_load()
_chain()
