//! The replies that native methods give most: None, a bool, something that may be missing.
//!
//! Every table of methods uses them; nothing here can fail.

use std::convert::Infallible;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};

use super::method::Reply;
use super::object::Owned;

pub(crate) fn none(py: Python<'_>) -> Reply<'_> {
    Ok(py.None().into_bound(py))
}

pub(crate) fn bool(py: Python<'_>, value: bool) -> Reply<'_> {
    Ok(PyBool::new(py, value).to_owned().into_any())
}

/// An `int`.
pub(crate) fn number<'py>(
    py: Python<'py>,
    value: impl IntoPyObject<'py, Target = PyInt, Output = Bound<'py, PyInt>, Error = Infallible>,
) -> Reply<'py> {
    let Ok(number) = value.into_pyobject(py);
    Ok(number.into_any())
}

/// The object, or None.
pub(crate) fn option(py: Python<'_>, value: Option<Owned>) -> Reply<'_> {
    Ok(value.map_or_else(|| py.None().into_bound(py), |value| value.into_bound(py)))
}
