"""The far side of environments: sent as the package ``_pycomnet_xdeploy`` when first needed.

Standard library only, in the common subset of Python 2.7 and 3 (docs/architecture/xdeploy.rst).
"""
