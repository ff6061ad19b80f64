#![allow(unsafe_code)]
//! Method tables: safe Rust functions become C functions that Python calls without PyO3's argument machinery.
//!
//! A table is built once, at import, from function items (`Method::fast("call_soon", call_soon)`). The C function finds
//! the Rust one by its type alone: function items are zero-sized, so nothing is looked up at a call. A panic becomes
//! PyO3's `PanicException`, an error Python's.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::class::{Fields, This, raw_slot};

pub(crate) type Reply<'py> = PyResult<Bound<'py, PyAny>>;

/// Turns a native method's `self` into its fields; None where the object is of another class.
pub(crate) trait Receiver: Sized + 'static {
    fn receive<'a, 'py>(object: Borrowed<'a, 'py, PyAny>) -> Option<This<'a, 'py, Self>>;
}

impl<T: Fields> Receiver for T {
    #[inline]
    fn receive<'a, 'py>(object: Borrowed<'a, 'py, PyAny>) -> Option<This<'a, 'py, Self>> {
        This::of(object)
    }
}

#[inline]
fn receive<'a, 'py, T: Receiver>(object: Borrowed<'a, 'py, PyAny>) -> PyResult<This<'a, 'py, T>> {
    T::receive(object).ok_or_else(|| PyTypeError::new_err("the method was called on an object of another class"))
}

/// Arguments of one call, as `METH_FASTCALL | METH_KEYWORDS` passes them.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a, 'py> {
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    names: Option<Borrowed<'a, 'py, PyAny>>,
    py: Python<'py>,
}

impl<'a, 'py> Args<'a, 'py> {
    pub(crate) fn len(&self) -> usize {
        self.positional
    }

    pub(crate) fn py(&self) -> Python<'py> {
        self.py
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        if index >= self.positional {
            return None;
        }
        // SAFETY: the caller of the method holds every argument during the call.
        Some(unsafe { Borrowed::from_ptr(self.py, self.values[index]) })
    }

    /// Positional arguments from `start` on.
    pub(crate) fn tail(&self, start: usize) -> impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>> {
        let py = self.py;
        let start = start.min(self.positional);
        // SAFETY: as in `get`.
        self.values[start..self.positional].iter().map(move |value| unsafe { Borrowed::from_ptr(py, *value) })
    }

    #[inline]
    pub(crate) fn has_keywords(&self) -> bool {
        self.names.is_some()
    }

    /// Keyword arguments in the caller's order.
    pub(crate) fn keywords(&self) -> impl Iterator<Item = (Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)> {
        let (py, values, positional) = (self.py, self.values, self.positional);
        let names = self.names;
        // SAFETY: `kwnames` is a tuple with one entry per value behind the positional ones; both outlive the call.
        let count = names.map_or(0, |names| unsafe { ffi::PyTuple_GET_SIZE(names.as_ptr()) } as usize);
        (0..count).filter_map(move |index| {
            let names = names?;
            // SAFETY: as above.
            unsafe {
                let name = ffi::PyTuple_GET_ITEM(names.as_ptr(), index.cast_signed());
                Some((Borrowed::from_ptr(py, name), Borrowed::from_ptr(py, values[positional + index])))
            }
        })
    }

    /// The only keyword of a method beside its positional parameters; any other is an error. None counts as not given.
    #[inline(always)]
    pub(crate) fn only_keyword(
        &self,
        method: &str,
        keyword: &Py<PyString>,
        positional: &[&str],
    ) -> PyResult<Option<Borrowed<'a, 'py, PyAny>>> {
        if self.has_keywords() { self.find_keyword(method, Some(keyword), positional) } else { Ok(None) }
    }

    /// For methods without a keyword of their own: positional parameters may be given by name, nothing else.
    pub(crate) fn no_keyword(&self, method: &str, positional: &[&str]) -> PyResult<()> {
        self.find_keyword(method, None, positional).map(|_| ())
    }

    fn find_keyword(
        &self,
        method: &str,
        keyword: Option<&Py<PyString>>,
        positional: &[&str],
    ) -> PyResult<Option<Borrowed<'a, 'py, PyAny>>> {
        let mut found = None;
        for (name, value) in self.keywords() {
            if !keyword.map_or(Ok(false), |keyword| same_name(name, keyword))? {
                let parameter = name.extract::<String>()?;
                match positional.iter().position(|known| *known == parameter) {
                    None => return Err(unexpected_keyword(method, name)),
                    Some(index) if index < self.positional => {
                        let text = format!("{method}() got multiple values for argument '{parameter}'");
                        return Err(PyTypeError::new_err(text));
                    }
                    Some(_) => continue,
                }
            }
            found = (!value.is_none()).then_some(value);
        }
        Ok(found)
    }

    #[cold]
    fn by_name(&self, method: &str, name: &str) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        let named = self.keywords().find(|(keyword, _)| keyword.eq(name).unwrap_or(false));
        let missing = || format!("{method}() missing 1 required positional argument: '{name}'");
        named.map(|(_, value)| value).ok_or_else(|| PyTypeError::new_err(missing()))
    }

    /// The argument at `index`, or the one of this name, or Python's own complaint that it is missing.
    #[inline(always)]
    pub(crate) fn required(&self, method: &str, index: usize, name: &str) -> PyResult<Borrowed<'a, 'py, PyAny>> {
        match self.get(index) {
            Some(value) => Ok(value),
            None => self.by_name(method, name),
        }
    }
}

/// Keyword names are interned nearly always, so identity decides first.
pub(crate) fn same_name(name: Borrowed<'_, '_, PyAny>, expected: &Py<PyString>) -> PyResult<bool> {
    Ok(name.as_ptr() == expected.as_ptr() || name.eq(expected)?)
}

pub(crate) fn unexpected_keyword(method: &str, name: Borrowed<'_, '_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{method}() got an unexpected keyword argument '{}'", &*name))
}

/// Runs native code that Python called; a panic becomes PyO3's `PanicException`.
#[inline]
pub(super) fn no_panic<R>(body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic from Rust code");
        Err(PyErr::new::<PanicException, _>((text.to_owned(),)))
    })
}

/// Runs a method's body; an error is left to Python as its current exception.
#[inline]
fn guarded<R>(py: Python<'_>, failed: R, body: impl FnOnce() -> PyResult<R>) -> R {
    match no_panic(body) {
        Ok(value) => value,
        Err(error) => {
            error.restore(py);
            // PyO3 puts off the end of errors that were dropped while it did not know that this thread is attached:
            // attaching by its own way, which this is, settles them. At the interpreter's end it cannot be done.
            let _ = Python::try_attach(|_| ());
            failed
        }
    }
}

/// A value of a zero-sized type whose values exist: the caller passed one to the table builder.
pub(super) fn witness<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "methods are function items, not pointers or capturing closures") };
    // SAFETY: `F` is inhabited (see above) and has no bytes to read.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

/// One entry of a method or attribute table.
pub(crate) struct Method<T> {
    entry: Entry,
    /// Stays even where the base class has no such name.
    always: bool,
    _of: PhantomData<T>,
}

enum Entry {
    Call(ffi::PyMethodDef),
    Attribute(ffi::PyGetSetDef),
}

impl<T: Receiver> Method<T> {
    fn new(entry: Entry) -> Self {
        Method { entry, always: false, _of: PhantomData }
    }

    fn call(name: &'static CStr, doc: &'static CStr, flags: c_int, method: ffi::PyMethodDefPointer) -> Self {
        let (ml_name, ml_doc) = (name.as_ptr(), doc.as_ptr());
        Self::new(Entry::Call(ffi::PyMethodDef { ml_name, ml_meth: method, ml_flags: flags, ml_doc }))
    }

    fn attribute(name: &'static CStr, get: ffi::getter, set: Option<ffi::setter>) -> Self {
        Self::new(Entry::Attribute(ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(get),
            set,
            doc: std::ptr::null(),
            closure: std::ptr::null_mut(),
        }))
    }

    /// `object.name()`.
    pub(crate) fn no_args<F>(name: &'static CStr, doc: &'static CStr, _method: F) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
    {
        let method = ffi::PyMethodDefPointer { PyCFunction: no_args::<T, F> };
        Self::call(name, doc, ffi::METH_NOARGS, method)
    }

    /// `object.name(argument)`.
    pub(crate) fn one_arg<F>(name: &'static CStr, doc: &'static CStr, _method: F) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>, Borrowed<'a, 'py, PyAny>) -> Reply<'py> + Copy + 'static,
    {
        let method = ffi::PyMethodDefPointer { PyCFunction: one_arg::<T, F> };
        Self::call(name, doc, ffi::METH_O, method)
    }

    /// `object.name(*args, **kwargs)`.
    pub(crate) fn fast<F>(name: &'static CStr, doc: &'static CStr, _method: F) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>, Args<'a, 'py>) -> Reply<'py> + Copy + 'static,
    {
        let method = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: fast::<T, F> };
        Self::call(name, doc, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, method)
    }

    /// A read-only attribute.
    pub(crate) fn get<F>(name: &'static CStr, _getter: F) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
    {
        Self::attribute(name, getter::<T, F>, None)
    }

    /// An attribute; the setter gets None when it is deleted.
    pub(crate) fn get_set<F, G>(name: &'static CStr, _getter: F, _setter: G) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
        G: for<'a, 'py> Fn(This<'a, 'py, T>, Option<Borrowed<'a, 'py, PyAny>>) -> PyResult<()> + Copy + 'static,
    {
        Self::attribute(name, getter::<T, F>, Some(setter::<T, G>))
    }

    /// Keeps the entry on versions whose base class lacks the name.
    pub(crate) fn always(self) -> Self {
        Method { always: true, ..self }
    }

    /// Takes the place of the attribute that a slot of this name would make; the slot itself stays.
    pub(crate) fn instead_of_slot(mut self) -> Self {
        if let Entry::Call(definition) = &mut self.entry {
            definition.ml_flags |= ffi::METH_COEXIST;
        }
        self
    }

    pub(crate) fn is_named(&self, name: &CStr) -> bool {
        self.name() == name
    }

    fn name(&self) -> &CStr {
        // SAFETY: every constructor took the name from a `&'static CStr`.
        unsafe {
            CStr::from_ptr(match &self.entry {
                Entry::Call(definition) => definition.ml_name,
                Entry::Attribute(definition) => definition.name,
            })
        }
    }
}

pub(super) unsafe extern "C" fn no_args<T, F>(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject
where
    T: Receiver,
    F: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
{
    // SAFETY: Python calls a class's methods attached and with an instance of it.
    unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, object);
        guarded(py, std::ptr::null_mut(), || witness::<F>()(receive(object)?).map(Bound::into_ptr))
    }
}

unsafe extern "C" fn one_arg<T, F>(object: *mut ffi::PyObject, argument: *mut ffi::PyObject) -> *mut ffi::PyObject
where
    T: Receiver,
    F: for<'a, 'py> Fn(This<'a, 'py, T>, Borrowed<'a, 'py, PyAny>) -> Reply<'py> + Copy + 'static,
{
    // SAFETY: as in `no_args`; the caller holds the argument.
    unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, object);
        let argument = Borrowed::from_ptr(py, argument);
        guarded(py, std::ptr::null_mut(), || witness::<F>()(receive(object)?, argument).map(Bound::into_ptr))
    }
}

unsafe extern "C" fn fast<T, F>(
    object: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject
where
    T: Receiver,
    F: for<'a, 'py> Fn(This<'a, 'py, T>, Args<'a, 'py>) -> Reply<'py> + Copy + 'static,
{
    // SAFETY: as in `no_args`; `values` holds `positional` values and then one per name, all held by the caller.
    unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, object);
        let positional = positional.cast_unsigned();
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names).cast_unsigned() };
        let values: &[*mut ffi::PyObject] =
            if positional + named == 0 { &[] } else { std::slice::from_raw_parts(values, positional + named) };
        let names = (named > 0).then(|| Borrowed::from_ptr(py, names));
        let args = Args { values, positional, names, py };
        guarded(py, std::ptr::null_mut(), || witness::<F>()(receive(object)?, args).map(Bound::into_ptr))
    }
}

unsafe extern "C" fn getter<T, F>(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject
where
    T: Receiver,
    F: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
{
    // SAFETY: getters are called as methods without arguments are.
    unsafe { no_args::<T, F>(object, std::ptr::null_mut()) }
}

unsafe extern "C" fn setter<T, F>(object: *mut ffi::PyObject, value: *mut ffi::PyObject, _: *mut c_void) -> c_int
where
    T: Receiver,
    F: for<'a, 'py> Fn(This<'a, 'py, T>, Option<Borrowed<'a, 'py, PyAny>>) -> PyResult<()> + Copy + 'static,
{
    // SAFETY: as in `no_args`; a null value means `del`.
    unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, object);
        let value = Borrowed::from_ptr_or_opt(py, value);
        guarded(py, -1, || witness::<F>()(receive(object)?, value).map(|()| 0))
    }
}

/// Slots of a native class beside those that `class.rs` fills itself.
pub(crate) struct Slots<T> {
    raw: Vec<ffi::PyType_Slot>,
    _of: PhantomData<T>,
}

impl<T: Fields> Slots<T> {
    pub(crate) fn new() -> Self {
        Slots { raw: Vec::new(), _of: PhantomData }
    }

    pub(super) fn push(&mut self, slot: c_int, function: *mut c_void) {
        self.raw.push(raw_slot(slot, function));
    }

    /// `__init__(self, *args, **kwargs)`.
    pub(crate) fn init<F>(mut self, _init: F) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>, &Bound<'py, PyTuple>, Option<&Bound<'py, PyDict>>) -> PyResult<()>
            + Copy
            + 'static,
    {
        self.push(ffi::Py_tp_init, init::<T, F> as ffi::initproc as *mut c_void);
        self
    }

    /// `__repr__`.
    pub(crate) fn repr<F>(mut self, _repr: F) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
    {
        self.push(ffi::Py_tp_repr, repr::<T, F> as ffi::reprfunc as *mut c_void);
        self
    }

    /// The raw slots with the method tables, which live as long as the process. Names that asyncio's class does not have
    /// are left out: the interpreter's asyncio knows no such method. `Method::always` marks what is ours alone.
    pub(super) fn into_raw(
        mut self,
        methods: Vec<Method<T>>,
        model: Option<&Bound<'_, PyType>>,
        has_dict: bool,
    ) -> Vec<ffi::PyType_Slot> {
        let mut calls = Vec::new();
        let mut attributes = Vec::new();
        for method in methods {
            let name = method.name().to_str().expect("method names are ASCII");
            if !method.always && model.is_some_and(|model| !model.hasattr(name).unwrap_or(true)) {
                continue;
            }
            match method.entry {
                Entry::Call(definition) => calls.push(definition),
                Entry::Attribute(definition) => attributes.push(definition),
            }
        }
        if has_dict {
            attributes.push(ffi::PyGetSetDef {
                name: c"__dict__".as_ptr(),
                get: Some(ffi::PyObject_GenericGetDict),
                set: Some(ffi::PyObject_GenericSetDict),
                ..Default::default()
            });
        }
        calls.push(ffi::PyMethodDef::zeroed());
        attributes.push(ffi::PyGetSetDef::default());
        self.push(ffi::Py_tp_methods, Vec::leak(calls).as_mut_ptr().cast());
        self.push(ffi::Py_tp_getset, Vec::leak(attributes).as_mut_ptr().cast());
        self.raw
    }
}

unsafe extern "C" fn init<T, F>(
    object: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    kwargs: *mut ffi::PyObject,
) -> c_int
where
    T: Fields,
    F: for<'a, 'py> Fn(This<'a, 'py, T>, &Bound<'py, PyTuple>, Option<&Bound<'py, PyDict>>) -> PyResult<()>
        + Copy
        + 'static,
{
    // SAFETY: `tp_init` gets an instance, a tuple and a dict or null, all held by the caller.
    unsafe {
        let py = Python::assume_attached();
        let this = This::of_unchecked(Borrowed::from_ptr(py, object));
        let args = Bound::from_borrowed_ptr(py, args).cast_into_unchecked::<PyTuple>();
        let kwargs = Bound::from_borrowed_ptr_or_opt(py, kwargs).map(|dict| dict.cast_into_unchecked::<PyDict>());
        guarded(py, -1, || witness::<F>()(this, &args, kwargs.as_ref()).map(|()| 0))
    }
}

unsafe extern "C" fn repr<T, F>(object: *mut ffi::PyObject) -> *mut ffi::PyObject
where
    T: Fields,
    F: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
{
    // SAFETY: `tp_repr` is called as a method without arguments is.
    unsafe { no_args::<T, F>(object, std::ptr::null_mut()) }
}

/// Adds fast methods to a `#[pyclass]` or a subclass: PyO3's own would build a tuple for `*args` at every call.
pub(crate) fn add_methods<T: Receiver>(class: &Bound<'_, PyType>, methods: Vec<Method<T>>) -> PyResult<()> {
    for method in methods {
        let name = method.name().to_str().expect("method names are ASCII").to_owned();
        // SAFETY: the definitions are leaked, and the descriptor checks its `self` against the type.
        let descriptor = unsafe {
            let raw = match method.entry {
                Entry::Call(entry) => ffi::PyDescr_NewMethod(class.as_type_ptr(), Box::leak(Box::new(entry))),
                Entry::Attribute(entry) => ffi::PyDescr_NewGetSet(class.as_type_ptr(), Box::leak(Box::new(entry))),
            };
            Bound::from_owned_ptr_or_err(class.py(), raw)?
        };
        class.setattr(name, descriptor)?;
    }
    Ok(())
}
