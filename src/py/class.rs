#![allow(unsafe_code)]
//! Native classes: heap types made from a spec, whose Rust fields lie behind the fields of a base class.
//!
//! `Future` and `Task` inherit from asyncio's C classes and `Handle` from its Python ones, so that `isinstance` holds
//! everywhere; the base's own `__init__` never runs and its fields stay zero. PyO3's `#[pyclass]` can extend neither.
//! `method.rs` makes the method tables; what the classes do is none of this file's business.

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::ops::Deref;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyMappingProxy, PyString, PyTuple, PyType};

use super::layout::{BaseFields, hidden_members, word_at};
use super::memory::{Spares, dealloc};
use super::method::{Method, Slots};
use super::object::Owned;

/// Where a class and its fields are, known once the module is imported.
pub(crate) struct Class {
    type_object: AtomicPtr<ffi::PyTypeObject>,
    pub(super) base: AtomicPtr<ffi::PyTypeObject>,
    pub(super) offset: AtomicUsize,
    /// The base is `object` or written in Python: it has no `tp_dealloc`, `tp_traverse` or `tp_clear` to call.
    pub(super) plain_base: AtomicBool,
    /// The base is a heap type in C: its `tp_traverse` shows the type, its `tp_dealloc` gives back the reference to it.
    pub(super) heap_base: AtomicBool,
    pub(super) base_fields: BaseFields,
    /// Byte offset of an instance dict of ours; 0 if the class has none, or its base's.
    own_dict: AtomicUsize,
    /// The finalizer has run for an instance, whoever called it.
    pub(super) has_finalized: AtomicBool,
    pub(super) spares: Spares,
}

impl Class {
    pub(crate) const fn new() -> Self {
        Class {
            type_object: AtomicPtr::new(std::ptr::null_mut()),
            base: AtomicPtr::new(std::ptr::null_mut()),
            offset: AtomicUsize::new(0),
            plain_base: AtomicBool::new(false),
            heap_base: AtomicBool::new(false),
            base_fields: BaseFields::new(),
            own_dict: AtomicUsize::new(0),
            has_finalized: AtomicBool::new(false),
            spares: Spares::new(),
        }
    }

    pub(super) fn type_ptr(&self) -> *mut ffi::PyTypeObject {
        self.type_object.load(Relaxed)
    }

    pub(crate) fn type_object<'py>(&self, py: Python<'py>) -> Bound<'py, PyType> {
        // SAFETY: the pointer is a type that is never freed (`Class::create` leaks one reference).
        unsafe { Bound::from_borrowed_ptr(py, self.type_ptr().cast()).cast_into_unchecked() }
    }

    /// The object is of exactly this class.
    #[inline]
    pub(crate) fn is_exact(&self, object: Borrowed<'_, '_, PyAny>) -> bool {
        // SAFETY: a live object's type pointer is always readable.
        unsafe { ffi::Py_TYPE(object.as_ptr()) == self.type_ptr() }
    }

    /// Where the object has a dict of ours, or None.
    #[inline(always)]
    pub(super) fn own_dict(&self, object: *mut ffi::PyObject) -> Option<*mut *mut ffi::PyObject> {
        match self.own_dict.load(Relaxed) {
            0 => None,
            offset => Some(word_at(object, offset.cast_signed())),
        }
    }

    /// # Safety
    /// The object is an instance of the class, and the thread attached.
    pub(super) unsafe fn clear_own_dict(&self, object: *mut ffi::PyObject) {
        if let Some(dict) = self.own_dict(object) {
            // SAFETY: the word is the object's own; it is emptied before the dict goes, whose end may run Python code.
            unsafe { ffi::Py_XDECREF(dict.replace(std::ptr::null_mut())) }
        }
    }

    fn is_instance(&self, object: Borrowed<'_, '_, PyAny>) -> bool {
        // SAFETY: both are valid types.
        self.is_exact(object) || unsafe { ffi::PyType_IsSubtype(ffi::Py_TYPE(object.as_ptr()), self.type_ptr()) != 0 }
    }
}

/// The Rust half of a native class.
pub(crate) trait Fields: Sized + Send + Sync + 'static {
    /// Has the class a finalizer?
    const FINALIZES: bool = false;
    /// Memory of dead objects kept for reuse, at most: several hundred objects.
    const SPARE_BYTES: usize = 96 << 10;

    fn class() -> &'static Class;
    /// What an object is before its `__init__`, and after its end. Classes that Python cannot instantiate have none.
    fn empty() -> Option<Self> {
        None
    }
    /// Shows the collector every Python reference.
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop>;
    /// Gives up every reference that may be part of a cycle; the caller drops them.
    fn take_references(&self, py: Python<'_>) -> Vec<Owned>;
    /// Would `finalize` do anything now? Asked before an object of exactly this class dies.
    fn wants_finalizer(&self) -> bool {
        Self::FINALIZES
    }
    /// May a dead object be kept for reuse? Not where the base's `tp_dealloc` has more to do than free fields.
    fn is_reusable(&self) -> bool {
        true
    }
    /// `__del__`: may call Python, may resurrect.
    fn finalize(_this: This<'_, '_, Self>) {}
}

/// `self` of a native method: the object and its Rust fields.
pub(crate) struct This<'a, 'py, T> {
    object: Borrowed<'a, 'py, PyAny>,
    fields: &'a T,
}

impl<T> Clone for This<'_, '_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for This<'_, '_, T> {}

impl<T> Deref for This<'_, '_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.fields
    }
}

impl<'a, 'py, T> This<'a, 'py, T> {
    pub(crate) fn new(object: Borrowed<'a, 'py, PyAny>, fields: &'a T) -> Self {
        This { object, fields }
    }

    pub(crate) fn object(&self) -> Borrowed<'a, 'py, PyAny> {
        self.object
    }

    pub(crate) fn fields(&self) -> &'a T {
        self.fields
    }

    pub(crate) fn py(&self) -> Python<'py> {
        self.object.py()
    }

    pub(crate) fn owned(&self) -> Owned {
        Owned::of(self.object)
    }
}

impl<'a, 'py, T: Fields> This<'a, 'py, T> {
    /// The object's fields, if it is of the class or a subclass.
    #[inline]
    pub(crate) fn of(object: Borrowed<'a, 'py, PyAny>) -> Option<Self> {
        // SAFETY: the class has just been checked.
        T::class().is_instance(object).then(|| unsafe { Self::of_unchecked(object) })
    }

    /// As `of`, for the class itself alone: what a hot path asks.
    #[inline]
    pub(crate) fn of_exact(object: Borrowed<'a, 'py, PyAny>) -> Option<Self> {
        // SAFETY: the class has just been checked.
        T::class().is_exact(object).then(|| unsafe { Self::of_unchecked(object) })
    }

    /// # Safety
    /// The object is an instance of `T::class()`.
    #[inline]
    pub(super) unsafe fn of_unchecked(object: Borrowed<'a, 'py, PyAny>) -> Self {
        // SAFETY: instances have initialised fields at the offset from `tp_new`/`create` until `tp_dealloc`, and the
        // object outlives the borrow.
        let fields = unsafe { &*fields_ptr::<T>(object.as_ptr()) };
        This { object, fields }
    }
}

#[inline]
pub(super) fn fields_ptr<T: Fields>(object: *mut ffi::PyObject) -> *mut T {
    object.cast::<u8>().wrapping_add(T::class().offset.load(Relaxed)).cast()
}

/// The collector's visitor.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    visit: ffi::visitproc,
    argument: *mut c_void,
    _during: PhantomData<&'a ()>,
}

/// The collector asked to stop visiting, with this result.
pub(crate) struct Stop(c_int);

impl Visit<'_> {
    #[inline(always)]
    pub(crate) fn object(self, object: &Owned) -> Result<(), Stop> {
        // SAFETY: the reference is live, and the pair of pointers is what `tp_traverse` was given.
        match unsafe { (self.visit)(object.as_ptr(), self.argument) } {
            0 => Ok(()),
            code => Err(Stop(code)),
        }
    }

    #[inline(always)]
    pub(crate) fn option(self, object: &Option<Owned>) -> Result<(), Stop> {
        match object {
            Some(object) => self.object(object),
            None => Ok(()),
        }
    }
}

/// What a class is made of.
pub(crate) struct Recipe<'a, 'py> {
    pub(crate) name: &'static CStr,
    pub(crate) doc: &'static CStr,
    pub(crate) ancestry: Ancestry<'a, 'py>,
}

/// How a class is related to asyncio's.
#[derive(Clone, Copy)]
pub(crate) enum Ancestry<'a, 'py> {
    /// Inherits from a C class; Python code may subclass and instantiate it.
    Inherits(&'a Bound<'py, PyType>),
    /// Answers to `__class__` with this Python class, so that its instances are instances of it, and has its Python
    /// methods; but inherits from `object`: nine empty slots would make every instance half as large again.
    StandsFor(&'a Bound<'py, PyType>),
    /// Inherits from Python classes with slots, each of which an attribute of ours hides, so that they stay empty; all
    /// slots are the first one's. Python code may neither subclass nor instantiate it, but may set attributes.
    Extends(&'a [Bound<'py, PyType>]),
    /// Has nothing to do with asyncio's classes.
    Alone,
}

/// Makes the type object. Called once per class, at import.
pub(crate) fn define<'py, T: Fields>(
    py: Python<'py>,
    recipe: &Recipe<'_, 'py>,
    methods: Vec<Method<T>>,
    slots: Slots<T>,
) -> PyResult<Bound<'py, PyType>> {
    const { assert!(align_of::<T>() <= align_of::<usize>() && size_of::<T>() >= size_of::<usize>()) };
    let class = T::class();
    if !class.type_ptr().is_null() {
        return Ok(class.type_object(py));
    }
    let object = py.get_type::<PyAny>();
    let (bases, model) = match recipe.ancestry {
        Ancestry::Inherits(base) => (slice::from_ref(base), Some(base)),
        Ancestry::StandsFor(model) => (slice::from_ref(&object), Some(model)),
        Ancestry::Extends(bases) => (bases, None),
        Ancestry::Alone => (slice::from_ref(&object), None),
    };
    let tuple = PyTuple::new(py, bases)?;
    let inherits = matches!(recipe.ancestry, Ancestry::Inherits(_));
    let has_dict = matches!(recipe.ancestry, Ancestry::Extends(_));
    let base = bases.first().expect("every class has a base").as_type_ptr();
    // SAFETY: `base` is a live type object.
    let (base_size, base_is_heap) =
        unsafe { ((*base).tp_basicsize.cast_unsigned(), ffi::PyType_GetFlags(base) & ffi::Py_TPFLAGS_HEAPTYPE != 0) };
    // Behind a base without one comes a list of weak references, and a dict where there is one.
    let words = if inherits { 0 } else { 1 + usize::from(has_dict) };
    let offset = base_size.next_multiple_of(align_of::<T>()) + words * size_of::<usize>();
    if has_dict {
        class.own_dict.store(offset - size_of::<usize>(), Relaxed);
    }
    class.base.store(base, Relaxed);
    class.offset.store(offset, Relaxed);
    class.plain_base.store(!inherits, Relaxed);
    class.heap_base.store(inherits && base_is_heap, Relaxed);

    let (mut slots, flags) = finish_slots::<T>(recipe, slots.into_raw(methods, model, has_dict), base_size);
    let mut spec = ffi::PyType_Spec {
        name: recipe.name.as_ptr(),
        basicsize: c_int::try_from(offset + size_of::<T>()).expect("objects are small"),
        itemsize: 0,
        flags: u32::try_from(flags).expect("type flags fit 32 bits"),
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots end with a zero, every function has the signature its slot asks for, tables inside are leaked.
    let made = unsafe {
        let object = ffi::PyType_FromSpecWithBases(&mut spec, tuple.as_ptr());
        Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyType>()
    };
    // SAFETY: reads a field of a live type.
    if unsafe { (*made.as_type_ptr()).tp_base } != base {
        return Err(PyTypeError::new_err("the slots are not those of the first base"));
    }
    class.type_object.store(made.as_type_ptr(), Relaxed);
    std::mem::forget(made.clone());
    class.spares.set_room(T::SPARE_BYTES / (offset + size_of::<T>()));
    if inherits {
        class.base_fields.learn(&made, base_size)?;
    }
    if let Ancestry::StandsFor(model) = recipe.ancestry {
        borrow_methods(&made, model)?;
    }
    Ok(made)
}

/// The slots that every native class has, and the type's flags.
fn finish_slots<T: Fields>(
    recipe: &Recipe<'_, '_>,
    mut slots: Vec<ffi::PyType_Slot>,
    base_size: usize,
) -> (Vec<ffi::PyType_Slot>, c_ulong) {
    let inherits = matches!(recipe.ancestry, Ancestry::Inherits(_));
    if !inherits {
        let dict = T::class().own_dict.load(Relaxed);
        slots.push(raw_slot(ffi::Py_tp_members, hidden_members(base_size, dict)));
    }
    slots.push(raw_slot(ffi::Py_tp_dealloc, dealloc::<T> as ffi::destructor as *mut c_void));
    slots.push(raw_slot(ffi::Py_tp_traverse, traverse::<T> as ffi::traverseproc as *mut c_void));
    slots.push(raw_slot(ffi::Py_tp_clear, clear::<T> as ffi::inquiry as *mut c_void));
    slots.push(raw_slot(ffi::Py_tp_doc, recipe.doc.as_ptr() as *mut c_void));
    if T::FINALIZES {
        slots.push(raw_slot(ffi::Py_tp_finalize, finalize::<T> as ffi::destructor as *mut c_void));
    }
    let mut flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC;
    if inherits {
        flags |= ffi::Py_TPFLAGS_BASETYPE;
        slots.push(raw_slot(ffi::Py_tp_new, new::<T> as ffi::newfunc as *mut c_void));
    } else {
        slots.push(raw_slot(ffi::Py_tp_new, refuse_new as ffi::newfunc as *mut c_void));
    }
    slots.push(raw_slot(0, std::ptr::null_mut()));
    (slots, flags)
}

/// Gives a class the Python methods of the one it stands for, unless it has its own.
pub(crate) fn borrow_methods(class: &Bound<'_, PyType>, model: &Bound<'_, PyType>) -> PyResult<()> {
    for ancestor in model.mro() {
        for item in ancestor.getattr("__dict__")?.cast_into::<PyMappingProxy>()?.items()? {
            let (name, value): (Bound<'_, PyString>, Bound<'_, PyAny>) = item.extract()?;
            let is_method = value.is_instance_of::<PyFunction>() && name != "__init__";
            if is_method && !class.getattr("__dict__")?.contains(&name)? {
                class.setattr(name, value)?;
            }
        }
    }
    Ok(())
}

pub(super) fn raw_slot(slot: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc: function }
}

unsafe extern "C" fn new<T: Fields>(
    subtype: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: Python calls `tp_new` with a subtype of the class; its `tp_alloc` zeroes the memory.
    unsafe {
        let alloc = (*subtype).tp_alloc.unwrap_or(ffi::PyType_GenericAlloc);
        let object = alloc(subtype, 0);
        if !object.is_null() {
            fields_ptr::<T>(object).write(T::empty().expect("public classes have an empty state"));
        }
        object
    }
}

unsafe extern "C" fn refuse_new(
    subtype: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by Python, attached, with a live type.
    unsafe {
        let py = Python::assume_attached();
        let name = PyType::from_borrowed_type_ptr(py, subtype).name();
        let name = name.map_or_else(|_| String::new(), |name| name.to_string());
        PyTypeError::new_err(format!("cannot create '{name}' instances")).restore(py);
    }
    std::ptr::null_mut()
}

unsafe extern "C" fn traverse<T: Fields>(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    let class = T::class();
    // SAFETY: the collector passes an instance and its own visitor; nothing here touches a reference count.
    unsafe {
        let type_object = ffi::Py_TYPE(object);
        let exact = type_object == class.type_ptr();
        let untouched = class.plain_base.load(Relaxed) || (exact && class.base_fields.are_known(object));
        // Our own classes live for ever, so nobody needs to see that their instances refer to them; a Python subclass may
        // go, and leaves it to us to show it, unless the base's `tp_traverse` does.
        if !exact && !class.heap_base.load(Relaxed) {
            let code = visit(type_object.cast(), argument);
            if code != 0 {
                return code;
            }
        }
        let code = visit_all(class.own_dict(object).into_iter(), visit, argument);
        if code != 0 {
            return code;
        }
        let during = Visit { visit, argument, _during: PhantomData };
        if let Err(Stop(code)) = (*fields_ptr::<T>(object)).visit(during) {
            return code;
        }
        match (*class.base.load(Relaxed)).tp_traverse {
            Some(base_traverse) if !untouched => base_traverse(object, visit, argument),
            _ => visit_all(class.base_fields.references(object), visit, argument),
        }
    }
}

/// # Safety
/// The places hold references or null, and the pair is what `tp_traverse` was given.
#[inline(always)]
unsafe fn visit_all(
    places: impl Iterator<Item = *mut *mut ffi::PyObject>,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    for place in places {
        // SAFETY: the caller's promise.
        let code = unsafe { if (*place).is_null() { 0 } else { visit(*place, argument) } };
        if code != 0 {
            return code;
        }
    }
    0
}

unsafe extern "C" fn clear<T: Fields>(object: *mut ffi::PyObject) -> c_int {
    let class = T::class();
    // SAFETY: the collector passes a live instance, attached; what is dropped has left the fields before.
    unsafe {
        drop((*fields_ptr::<T>(object)).take_references(Python::assume_attached()));
        class.clear_own_dict(object);
        match (*class.base.load(Relaxed)).tp_clear {
            Some(base_clear) if !class.plain_base.load(Relaxed) => base_clear(object),
            _ => 0,
        }
    }
}

unsafe extern "C" fn finalize<T: Fields>(object: *mut ffi::PyObject) {
    // SAFETY: `tp_finalize` gets a live instance, attached; an exception in flight is kept aside as its contract asks.
    unsafe {
        let py = Python::assume_attached();
        T::class().has_finalized.store(true, Relaxed);
        let in_flight = PyErr::take(py);
        T::finalize(This::of_unchecked(Borrowed::from_ptr(py, object)));
        if let Some(in_flight) = in_flight {
            in_flight.restore(py);
        }
    }
}
