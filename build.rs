//! Passes the interpreter's version on as `cfg(Py_3_x)` for `src/py/compat.rs`.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    pyo3_build_config::use_pyo3_cfgs();
}
