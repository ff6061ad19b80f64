//! Passes the interpreter's version on as `cfg(Py_3_x)` for `src/py/compat.rs`, and whether the crate io-uring knows the
//! architecture, as `cfg(io_uring)`.

/// As in Cargo.toml.
const WITH_IO_URING: [&str; 5] = ["x86_64", "aarch64", "riscv64", "loongarch64", "powerpc64"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(io_uring)");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|name| WITH_IO_URING.contains(&name.as_str())) {
        println!("cargo::rustc-cfg=io_uring");
    }
    pyo3_build_config::use_pyo3_cfgs();
}
