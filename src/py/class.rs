#![allow(unsafe_code)]
//! Native classes: heap types made from a spec, whose Rust fields lie behind the fields of a base class.
//!
//! `Future` and `Task` inherit from asyncio's C classes and `Handle` from its Python ones, so that `isinstance` holds
//! everywhere; the base's own `__init__` never runs and its fields stay zero. PyO3's `#[pyclass]` can extend neither.
//! `method.rs` makes the method tables; what the classes do is none of this file's business.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use pyo3::PyClass;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::compat;
use super::method::{Method, Slots};
use super::object::Owned;

/// Dead objects of a class kept for reuse, at most. They cost nothing while nobody needs them but their memory.
#[cfg(not(Py_GIL_DISABLED))]
const SPARES: usize = 256;

/// Memory of dead objects, with its reference to the class. Only with the GIL, which guards it.
#[cfg(not(Py_GIL_DISABLED))]
struct Spares {
    objects: std::cell::UnsafeCell<[*mut ffi::PyObject; SPARES]>,
    count: std::cell::Cell<usize>,
}

// SAFETY: touched by attached threads only, of which the GIL admits one at a time; the module refuses subinterpreters.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl Sync for Spares {}

#[cfg(not(Py_GIL_DISABLED))]
unsafe extern "C" {
    /// Makes a dead object's count one again, in the debug builds' books too. Declared in CPython's `object.h`.
    fn _Py_NewReference(object: *mut ffi::PyObject);
}

/// Where a class and its fields are, known once the module is imported.
pub(crate) struct Class {
    type_object: AtomicPtr<ffi::PyTypeObject>,
    base: AtomicPtr<ffi::PyTypeObject>,
    offset: AtomicUsize,
    /// The base is `object` or written in Python: it has no `tp_dealloc`, `tp_traverse` or `tp_clear` to call.
    plain_base: AtomicBool,
    /// The base's `tp_traverse` shows the type.
    base_visits_type: AtomicBool,
    /// Byte offset of the instance dict, the only field of the base that Python code may set; 0 if not known.
    dict_offset: AtomicIsize,
    #[cfg(not(Py_GIL_DISABLED))]
    spares: Spares,
}

impl Class {
    pub(crate) const fn new() -> Self {
        Class {
            type_object: AtomicPtr::new(std::ptr::null_mut()),
            base: AtomicPtr::new(std::ptr::null_mut()),
            offset: AtomicUsize::new(0),
            plain_base: AtomicBool::new(false),
            base_visits_type: AtomicBool::new(false),
            dict_offset: AtomicIsize::new(0),
            #[cfg(not(Py_GIL_DISABLED))]
            spares: Spares {
                objects: std::cell::UnsafeCell::new([std::ptr::null_mut(); SPARES]),
                count: std::cell::Cell::new(0),
            },
        }
    }

    /// The memory of a dead object, alive again: base fields zero, our fields uninitialised, not tracked.
    #[inline]
    fn revive(&self) -> Option<*mut ffi::PyObject> {
        #[cfg(not(Py_GIL_DISABLED))]
        if let Some(last) = self.spares.count.get().checked_sub(1) {
            self.spares.count.set(last);
            // SAFETY: `keep` stored it there; the GIL is held (see `Spares`).
            unsafe {
                let object = (*self.spares.objects.get())[last];
                _Py_NewReference(object);
                return Some(object);
            }
        }
        None
    }

    /// Keeps a dead object's memory; false if there is enough of it already.
    ///
    /// # Safety
    /// The object is exactly of this class, unreachable, untracked, never finalized, and all its fields are gone.
    #[inline]
    unsafe fn keep(&self, object: *mut ffi::PyObject) -> bool {
        #[cfg(not(Py_GIL_DISABLED))]
        {
            let count = self.spares.count.get();
            if count < SPARES {
                // SAFETY: the GIL is held, and `count` is in bounds.
                unsafe { (*self.spares.objects.get())[count] = object };
                self.spares.count.set(count + 1);
                return true;
            }
        }
        #[cfg(Py_GIL_DISABLED)]
        let _ = object;
        false
    }

    fn type_ptr(&self) -> *mut ffi::PyTypeObject {
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

    /// The object's base fields hold nothing.
    ///
    /// # Safety
    /// The object is an instance of the class.
    #[inline(always)]
    unsafe fn is_base_untouched(&self, object: *mut ffi::PyObject) -> bool {
        let dict = self.dict_offset.load(Relaxed);
        // SAFETY: instances, of subclasses too, have their dict where `find_dict` saw it.
        self.plain_base.load(Relaxed) || (dict != 0 && unsafe { (*word_at(object, dict)).is_null() })
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
    /// May dead objects be kept for reuse? Not where the base's `tp_dealloc` does more than free fields.
    const REUSABLE: bool = true;

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
fn fields_ptr<T: Fields>(object: *mut ffi::PyObject) -> *mut T {
    object.cast::<u8>().wrapping_add(T::class().offset.load(Relaxed)).cast()
}

/// A new instance of exactly `T`'s class.
#[inline]
pub(crate) fn create<T: Fields>(py: Python<'_>, fields: T) -> PyResult<Bound<'_, PyAny>> {
    let object = create_untracked(py, fields)?;
    track_new(object.as_borrowed());
    Ok(object)
}

/// As `create`, but unknown to the collector until `track`. For objects that a queue holds which the collector sees, so
/// that they cannot be garbage before they leave it.
#[inline(always)]
pub(crate) fn create_untracked<T: Fields>(py: Python<'_>, fields: T) -> PyResult<Bound<'_, PyAny>> {
    let class = T::class();
    // SAFETY: an allocated object's base fields are zero, and ours are written before anyone else can see it.
    unsafe {
        let object = match class.revive() {
            Some(object) => object,
            None => allocate(class),
        };
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        fields_ptr::<T>(object).write(fields);
        Ok(Bound::from_owned_ptr(py, object))
    }
}

/// Null, with an exception set, if there is no memory.
#[inline(never)]
fn allocate(class: &Class) -> *mut ffi::PyObject {
    let type_object = class.type_ptr();
    // SAFETY: the generic allocator zeroes the memory and tracks the object, which nobody has seen yet. The other one
    // does neither, and zeroes what lies before the object; a Python class with slots has nothing but those.
    unsafe {
        if class.plain_base.load(Relaxed) {
            let object = ffi::PyObject_GC_New::<ffi::PyObject>(type_object);
            if !object.is_null() {
                let base_fields = class.offset.load(Relaxed) - size_of::<ffi::PyObject>();
                object.add(1).cast::<u8>().write_bytes(0, base_fields);
            }
            return object;
        }
        let object = ffi::PyType_GenericAlloc(type_object, 0);
        if !object.is_null() {
            ffi::PyObject_GC_UnTrack(object.cast());
        }
        object
    }
}

/// Shows a new object to the collector.
#[inline(always)]
pub(crate) fn track_new(object: Borrowed<'_, '_, PyAny>) {
    // SAFETY: it comes from `create_untracked`: of a GC type, its fields initialised, not tracked.
    unsafe { ffi::PyObject_GC_Track(object.as_ptr().cast()) }
}

/// Shows an object to the collector, if it is not yet.
#[inline]
pub(crate) fn track(object: Borrowed<'_, '_, PyAny>) {
    // SAFETY: every native class is a GC type, and its fields are initialised.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}

/// Hides an object from the collector: its only holder shows what it refers to.
pub(crate) fn untrack(object: Borrowed<'_, '_, PyAny>) {
    // SAFETY: every native class is a GC type; untracking twice is allowed.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) }
}

pub(crate) fn is_tracked(object: &Owned) -> bool {
    // SAFETY: reads the GC header of a live object of a GC type.
    unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) != 0 }
}

/// Shows everything that the object refers to.
pub(crate) fn visit_referents(object: &Owned, visit: &mut dyn FnMut(&Owned)) {
    unsafe extern "C" fn pass_on(object: *mut ffi::PyObject, argument: *mut c_void) -> c_int {
        // SAFETY: `argument` is the closure below; an `Owned` is a pointer, and this one is not dropped.
        unsafe {
            let visit = &mut *argument.cast::<&mut dyn FnMut(&Owned)>();
            visit(&*(&raw const object).cast::<Owned>());
        }
        0
    }
    let mut visit = visit;
    // SAFETY: the object is live; its own `tp_traverse` calls `pass_on` with the closure that outlives it.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object.as_ptr())).tp_traverse {
            traverse(object.as_ptr(), pass_on, (&raw mut visit).cast());
        }
    }
}

/// Does anyone but the caller, who owns this reference, hold the object?
#[inline]
pub(crate) fn is_shared(object: &Owned) -> bool {
    // SAFETY: reads the count of a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) > 1 }
}

/// A frozen `#[pyclass]` whose instances are nearly all of one Python subclass, recognised by its address.
pub(crate) struct Known<T> {
    subclass: PyOnceLock<Py<PyType>>,
    pointer: AtomicPtr<ffi::PyTypeObject>,
    _of: PhantomData<fn() -> T>,
}

impl<T: PyClass<Frozen = True> + Sync> Known<T> {
    pub(crate) const fn new() -> Self {
        Known { subclass: PyOnceLock::new(), pointer: AtomicPtr::new(std::ptr::null_mut()), _of: PhantomData }
    }

    /// Remembers the first class it is told, and keeps it alive so that its address stays its own.
    pub(crate) fn learn(&self, class: &Bound<'_, PyType>) {
        let py = class.py();
        debug_assert!(class.is_subclass_of::<T>().unwrap_or(false));
        let known = self.subclass.get_or_init(py, || class.clone().unbind());
        self.pointer.store(known.bind(py).as_type_ptr(), Relaxed);
    }

    #[inline]
    pub(crate) fn receive<'a, 'py>(&self, object: Borrowed<'a, 'py, PyAny>) -> Option<This<'a, 'py, T>> {
        // SAFETY: reads the type of a live object; an instance of a subclass of `T` is an instance of `T`.
        let instance = unsafe {
            if ffi::Py_TYPE(object.as_ptr()) == self.pointer.load(Relaxed) {
                object.cast_unchecked::<T>()
            } else {
                object.cast::<T>().ok()?
            }
        };
        Some(This::new(object, instance.get()))
    }
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
    pub(crate) base: &'a Bound<'py, PyType>,
    /// `base` is `object` or a class written in Python.
    pub(crate) plain_base: bool,
    /// Python code may subclass and instantiate it.
    pub(crate) public: bool,
}

/// Makes the type object. Called once per class, at import.
pub(crate) fn define<'py, T: Fields>(
    recipe: &Recipe<'_, 'py>,
    methods: Vec<Method<T>>,
    slots: Slots<T>,
) -> PyResult<Bound<'py, PyType>> {
    const { assert!(align_of::<T>() <= 16) };
    let py = recipe.base.py();
    let class = T::class();
    if !class.type_ptr().is_null() {
        return Ok(class.type_object(py));
    }
    let base = recipe.base.as_type_ptr();
    // SAFETY: `base` is a live type object.
    let offset = unsafe { (*base).tp_basicsize }.cast_unsigned().next_multiple_of(align_of::<T>());
    class.base.store(base, Relaxed);
    class.offset.store(offset, Relaxed);
    class.plain_base.store(recipe.plain_base, Relaxed);
    // SAFETY: as above.
    let base_is_heap = unsafe { (*base).tp_flags } & ffi::Py_TPFLAGS_HEAPTYPE != 0;
    class.base_visits_type.store(!recipe.plain_base && base_is_heap, Relaxed);

    let mut slots = slots.into_raw(methods, recipe.base);
    slots.push(raw_slot(ffi::Py_tp_dealloc, dealloc::<T> as ffi::destructor as *mut c_void));
    slots.push(raw_slot(ffi::Py_tp_traverse, traverse::<T> as ffi::traverseproc as *mut c_void));
    slots.push(raw_slot(ffi::Py_tp_clear, clear::<T> as ffi::inquiry as *mut c_void));
    slots.push(raw_slot(ffi::Py_tp_doc, recipe.doc.as_ptr() as *mut c_void));
    if T::FINALIZES {
        slots.push(raw_slot(ffi::Py_tp_finalize, finalize::<T> as ffi::destructor as *mut c_void));
    }
    let mut flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC;
    if recipe.public {
        flags |= ffi::Py_TPFLAGS_BASETYPE;
        slots.push(raw_slot(ffi::Py_tp_new, new::<T> as ffi::newfunc as *mut c_void));
    } else {
        slots.push(raw_slot(ffi::Py_tp_new, refuse_new as ffi::newfunc as *mut c_void));
    }
    slots.push(raw_slot(0, std::ptr::null_mut()));

    let mut spec = ffi::PyType_Spec {
        name: recipe.name.as_ptr(),
        basicsize: c_int::try_from(offset + size_of::<T>()).expect("objects are small"),
        itemsize: 0,
        flags: u32::try_from(flags).expect("type flags fit 32 bits"),
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots end with a zero, every function has the signature its slot asks for, tables inside are leaked.
    let made = unsafe {
        let object = ffi::PyType_FromSpecWithBases(&mut spec, base.cast());
        Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyType>()
    };
    class.type_object.store(made.as_type_ptr(), Relaxed);
    std::mem::forget(made.clone());
    // From 3.14 on the base has another field that is set: who awaits the future.
    if T::REUSABLE && !recipe.plain_base && !compat::HAS_TASK_LIST {
        class.dict_offset.store(find_dict(&made)?, Relaxed);
    }
    Ok(made)
}

/// Where instances keep their dict: CPython has moved it three times, so an attribute is set to see which word changes.
fn find_dict(class: &Bound<'_, PyType>) -> PyResult<isize> {
    const WORD: isize = size_of::<usize>().cast_signed();
    let object = class.call_method1("__new__", (class,))?;
    let size: isize = class.getattr("__basicsize__")?.extract()?;
    // Before the object: four words, of which the nearer two are the collector's; in it, the count and the type.
    let offsets: Vec<isize> = (-4..-2).chain(2..size / WORD).map(|index| index * WORD).collect();
    // SAFETY: all these words belong to the object.
    let read = |offset: &isize| unsafe { word_at(object.as_ptr(), *offset).read() };
    let before: Vec<_> = offsets.iter().map(read).collect();
    object.setattr("probe", true)?;
    let mut changed = offsets.iter().zip(before).filter(|(offset, before)| read(offset) != *before && before.is_null());
    match (changed.next(), changed.next()) {
        (Some((offset, _)), None) => Ok(*offset),
        _ => Ok(0),
    }
}

fn word_at(object: *mut ffi::PyObject, offset: isize) -> *mut *mut ffi::PyObject {
    object.cast::<u8>().wrapping_offset(offset).cast()
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
        let untouched = class.is_base_untouched(object);
        if untouched || !class.base_visits_type.load(Relaxed) {
            let code = visit(ffi::Py_TYPE(object).cast(), argument);
            if code != 0 {
                return code;
            }
        }
        let during = Visit { visit, argument, _during: PhantomData };
        if let Err(Stop(code)) = (*fields_ptr::<T>(object)).visit(during) {
            return code;
        }
        if untouched {
            return 0;
        }
        match (*class.base.load(Relaxed)).tp_traverse {
            Some(base_traverse) => base_traverse(object, visit, argument),
            None => 0,
        }
    }
}

unsafe extern "C" fn clear<T: Fields>(object: *mut ffi::PyObject) -> c_int {
    let class = T::class();
    // SAFETY: the collector passes a live instance, attached; what is dropped has left the fields before.
    unsafe {
        drop((*fields_ptr::<T>(object)).take_references(Python::assume_attached()));
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
        let in_flight = PyErr::take(py);
        T::finalize(This::of_unchecked(Borrowed::from_ptr(py, object)));
        if let Some(in_flight) = in_flight {
            in_flight.restore(py);
        }
    }
}

unsafe extern "C" fn dealloc<T: Fields>(object: *mut ffi::PyObject) {
    let class = T::class();
    // SAFETY: called once per object, when its count reached zero. A Python subclass has run the finalizer already and
    // calls this through `subtype_dealloc`. Weak references go first, so that nothing that a field's end runs can reach
    // the object.
    unsafe {
        let type_object = ffi::Py_TYPE(object);
        let exact = type_object == class.type_ptr();
        if T::FINALIZES
            && exact
            && (*fields_ptr::<T>(object)).wants_finalizer()
            && ffi::PyObject_CallFinalizerFromDealloc(object) < 0
        {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        clear_weak_references(object, type_object);
        let base = class.base.load(Relaxed);
        let plain_base = class.plain_base.load(Relaxed);
        if exact && T::REUSABLE && !(T::FINALIZES && ffi::PyObject_GC_IsFinalized(object) != 0) {
            std::ptr::drop_in_place(fields_ptr::<T>(object));
            if !class.is_base_untouched(object)
                && let Some(base_clear) = (*base).tp_clear
            {
                base_clear(object);
            }
            if !class.keep(object) {
                free(object, type_object);
            }
        } else if plain_base {
            std::ptr::drop_in_place(fields_ptr::<T>(object));
            free(object, type_object);
        } else {
            // The base's dealloc may look at the object again, so the fields are replaced; that of a heap type gives
            // back the reference to the type, that of a static type leaves it to us.
            let empty = T::empty().expect("classes with a native base are public");
            drop(std::ptr::replace(fields_ptr::<T>(object), empty));
            let base_is_heap = (*base).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0;
            if let Some(base_dealloc) = (*base).tp_dealloc {
                // As CPython's own `subtype_dealloc` does: a base that knows of the collector untracks once more.
                ffi::PyObject_GC_Track(object.cast());
                base_dealloc(object);
            }
            if !base_is_heap {
                ffi::Py_DECREF(type_object.cast());
            }
        }
    }
}

/// # Safety
/// `object` is dead, of this type, and holds a list of weak references where the type says so.
#[inline]
unsafe fn clear_weak_references(object: *mut ffi::PyObject, type_object: *mut ffi::PyTypeObject) {
    // SAFETY: the caller's promise; a negative offset is a field before the object, as in CPython's own macro.
    unsafe {
        let offset = (*type_object).tp_weaklistoffset;
        if offset != 0 && !(*object.cast::<u8>().offset(offset).cast::<*mut ffi::PyObject>()).is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
    }
}

/// # Safety
/// `object` is dead, of this type, and all its fields are gone.
#[inline]
unsafe fn free(object: *mut ffi::PyObject, type_object: *mut ffi::PyTypeObject) {
    // SAFETY: the caller's promise; an instance of a heap type holds a reference to it.
    unsafe {
        let free = (*type_object).tp_free.unwrap_or(ffi::PyObject_GC_Del);
        free(object.cast());
        ffi::Py_DECREF(type_object.cast());
    }
}
