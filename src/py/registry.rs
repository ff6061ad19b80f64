#![allow(unsafe_code)]
//! asyncio's registers of tasks: which exist (`all_tasks`), which one runs (`current_task`).
//!
//! Until 3.13 the first is a `WeakSet`, whose Python methods cost more than the rest of a task's creation: the weak
//! reference goes into its `data` set directly, which is all that `WeakSet.add` does. From 3.14 it is a linked list
//! through the C task's own fields. The second is a dict until 3.13, a field of the thread state since.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::compat;
use super::introspection;
use super::object::Owned;

struct Registry {
    tasks: Store,
    current: Current,
    eager: Option<(Py<PyAny>, Py<PyAny>)>,
    enter: Py<PyAny>,
    leave: Py<PyAny>,
    /// `future_add_to_awaited_by` and its opposite.
    awaited_by: Option<(Py<PyAny>, Py<PyAny>)>,
}

enum Store {
    /// `WeakSet.data` and the callback of its weak references.
    WeakSet {
        data: Py<PyAny>,
        remove: Py<PyAny>,
    },
    Functions {
        register: Py<PyAny>,
        unregister: Py<PyAny>,
    },
}

enum Current {
    Dict(Py<PyAny>),
    /// `_swap_current_task`, and the byte offset in the thread state of the running loop, behind which it puts the task.
    Swap(Py<PyAny>, Option<usize>),
}

static REGISTRY: PyOnceLock<Registry> = PyOnceLock::new();

/// Finds the registers of the running interpreter. Called once, at import.
pub(crate) fn load(py: Python<'_>) -> PyResult<()> {
    REGISTRY.get_or_try_init(py, || Registry::find(py)).map(|_| ())
}

fn registry(py: Python<'_>) -> &'static Registry {
    REGISTRY.get(py).expect("the registry is loaded before the module has any class")
}

impl Registry {
    fn find(py: Python<'_>) -> PyResult<Self> {
        let module = py.import("_asyncio")?;
        let get = |name: &str| module.getattr(name).map(Bound::unbind);
        let set = ["_scheduled_tasks", "_all_tasks"].iter().find_map(|name| module.getattr(*name).ok());
        let tasks = match set {
            Some(set) if !compat::HAS_TASK_LIST => {
                Store::WeakSet { data: set.getattr("data")?.unbind(), remove: set.getattr("_remove")?.unbind() }
            }
            _ => Store::Functions { register: get("_register_task")?, unregister: get("_unregister_task")? },
        };
        let current = match module.getattr("_current_tasks") {
            Ok(dict) if !compat::HAS_TASK_LIST => Current::Dict(dict.unbind()),
            _ => {
                let swap = get("_swap_current_task")?;
                let offset = find_running_loop(&module, swap.bind(py))?;
                Current::Swap(swap, offset)
            }
        };
        let eager = match get("_register_eager_task") {
            Ok(register) => Some((register, get("_unregister_eager_task")?)),
            Err(_) => None,
        };
        let awaited_by = match get("future_add_to_awaited_by") {
            Ok(add) => Some((add, get("future_discard_from_awaited_by")?)),
            Err(_) => None,
        };
        let (enter, leave) = (get("_enter_task")?, get("_leave_task")?);
        Ok(Registry { tasks, current, eager, enter, leave, awaited_by })
    }
}

/// # Safety
/// Attached; `offset` is of a whole word in the thread state.
#[inline(always)]
unsafe fn thread_word(offset: usize) -> *mut *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyThreadState_Get().cast::<u8>().add(offset).cast() }
}

/// Where the thread state keeps the running loop, if the next word is the task that runs: asyncio is told of a loop and
/// of two tasks, one after the other, to see where they appear.
fn find_running_loop(module: &Bound<'_, PyModule>, swap: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    const WORD: usize = size_of::<usize>();
    let object = module.py().get_type::<PyAny>();
    let (loop_, one, two) = (object.call0()?, object.call0()?, object.call0()?);
    let running = module.call_method0("_get_running_loop")?;
    module.call_method1("_set_running_loop", (&loop_,))?;
    let look = || -> PyResult<Option<usize>> {
        // SAFETY: `compat` knows how large the thread state is at least.
        let holds = |offset: usize, object: &Bound<'_, PyAny>| unsafe { thread_word(offset).read() == object.as_ptr() };
        let outer = swap.call1((&loop_, &one))?;
        let mut offsets = (0..compat::THREAD_STATE_BYTES - WORD).step_by(WORD);
        let found = offsets.find(|offset| holds(*offset, &loop_) && holds(*offset + WORD, &one));
        swap.call1((&loop_, &two))?;
        let found = found.filter(|offset| holds(*offset + WORD, &two));
        swap.call1((&loop_, outer))?;
        Ok(found)
    };
    let found = look();
    module.call_method1("_set_running_loop", (running,))?;
    found
}

/// Makes `asyncio.all_tasks()` know the task; what is returned undoes it.
pub(crate) fn register(task: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Owned>> {
    let py = task.py();
    match &registry(py).tasks {
        Store::Functions { register, .. } => {
            compat::let_other_threads_refer_to(task);
            register.bind(py).call1((task,)).map(|_| None)
        }
        // SAFETY: attached; both are live objects, `data` is the WeakSet's set.
        Store::WeakSet { data, remove } => unsafe {
            let reference = ffi::PyWeakref_NewRef(task.as_ptr(), remove.as_ptr());
            let reference = Bound::from_owned_ptr_or_err(py, reference)?;
            if ffi::PySet_Add(data.as_ptr(), reference.as_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(Some(Owned::new(reference)))
        },
    }
}

/// Forgets a task that is done. `registration` is what `register` returned.
pub(crate) fn unregister(task: Borrowed<'_, '_, PyAny>, registration: Option<Owned>) -> PyResult<()> {
    let py = task.py();
    match (&registry(py).tasks, registration) {
        (Store::Functions { unregister, .. }, _) => unregister.bind(py).call1((task,)).map(|_| ()),
        (Store::WeakSet { data, .. }, Some(reference)) => {
            // SAFETY: as in `register`.
            if unsafe { ffi::PySet_Discard(data.as_ptr(), reference.as_ptr()) } < 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(())
        }
        (Store::WeakSet { .. }, None) => Ok(()),
    }
}

/// Makes `asyncio.current_task(loop)` answer with this task, or with None.
#[inline]
pub(crate) fn set_current(loop_: &Bound<'_, PyAny>, task: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let py = loop_.py();
    match &registry(py).current {
        Current::Swap(swap, offset) => {
            // SAFETY: attached, so there is a thread state, whose words at this place `find_running_loop` has checked.
            let place = offset.map(|offset| unsafe { thread_word(offset) });
            // SAFETY: as above.
            match place.filter(|place| unsafe { place.read() } == loop_.as_ptr()) {
                Some(place) => {
                    let task = task.map_or(std::ptr::null_mut(), |task| task.clone().into_ptr());
                    // SAFETY: the word is a reference or null, exchanged as `_swap_current_task` does. The old one goes
                    // last: its end may run Python code.
                    unsafe { ffi::Py_XDECREF(place.add(1).replace(task)) };
                    Ok(())
                }
                // Not the running loop: asyncio says so.
                None => swap.bind(py).call1((loop_, task)).map(|_| ()),
            }
        }
        Current::Dict(dict) => {
            // SAFETY: attached; `dict` is the dict in which asyncio looks the loop up.
            let failed = unsafe {
                match task {
                    Some(task) => compat::set_dict_item(dict.as_ptr(), loop_.as_ptr(), task.as_ptr()) != 0,
                    None => {
                        let failed = ffi::PyDict_DelItem(dict.as_ptr(), loop_.as_ptr()) != 0;
                        if failed && ffi::PyErr_ExceptionMatches(ffi::PyExc_KeyError) != 0 {
                            ffi::PyErr_Clear();
                            return Ok(());
                        }
                        failed
                    }
                }
            };
            if failed { Err(PyErr::fetch(py)) } else { Ok(()) }
        }
    }
}

/// Makes `asyncio.current_task(loop)` answer with None until the next task runs. In the dict an entry that is None costs
/// less than one that goes and comes back, but asyncio's own code cannot enter a task while it is there.
pub(crate) fn clear_current(loop_: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = loop_.py();
    match &registry(py).current {
        Current::Swap(..) => set_current(loop_, None),
        Current::Dict(_) => set_current(loop_, Some(py.None().bind(py))),
    }
}

/// As `set_current`, and tells which task was current: for eager starts, which happen inside another task's step.
pub(crate) fn swap_current<'py>(
    loop_: &Bound<'py, PyAny>,
    task: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = loop_.py();
    let previous = match &registry(py).current {
        Current::Swap(swap, _) => swap.bind(py).call1((loop_, task))?,
        Current::Dict(dict) => {
            let previous = dict.bind(py).call_method1("get", (loop_,))?;
            set_current(loop_, task)?;
            previous
        }
    };
    Ok((!previous.is_none()).then_some(previous))
}

/// `_enter_task`: refuses to nest. For tasks on loops that are not ours, whose steps run one by one.
pub(crate) fn enter(loop_: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    registry(loop_.py()).enter.bind(loop_.py()).call1((loop_, task)).map(|_| ())
}

/// `_leave_task`.
pub(crate) fn leave(loop_: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    registry(loop_.py()).leave.bind(loop_.py()).call1((loop_, task)).map(|_| ())
}

/// A task in its eager first step: known to `all_tasks`, not yet scheduled.
pub(crate) fn register_eager(task: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    match &registry(task.py()).eager {
        Some((register, _)) => register.bind(task.py()).call1((task,)).map(|_| ()),
        None => Ok(()),
    }
}

pub(crate) fn unregister_eager(task: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    match &registry(task.py()).eager {
        Some((_, unregister)) => unregister.bind(task.py()).call1((task,)).map(|_| ()),
        None => Ok(()),
    }
}

/// Notes for `asyncio.capture_call_graph()` and `python -m asyncio pstree` that the task awaits the future.
#[inline]
pub(crate) fn start_waiting(
    future: Borrowed<'_, '_, PyAny>,
    task: Borrowed<'_, '_, PyAny>,
    both_ours: bool,
) -> PyResult<()> {
    if !compat::HAS_AWAITED_BY || both_ours && introspection::add_only_awaiter(future, task) {
        return Ok(());
    }
    match &registry(task.py()).awaited_by {
        Some((add, _)) => add.bind(task.py()).call1((future, task)).map(|_| ()),
        None => Ok(()),
    }
}

#[inline]
pub(crate) fn stop_waiting(
    future: Borrowed<'_, '_, PyAny>,
    task: Borrowed<'_, '_, PyAny>,
    both_ours: bool,
) -> PyResult<()> {
    if !compat::HAS_AWAITED_BY || both_ours && introspection::remove_only_awaiter(future, task) {
        return Ok(());
    }
    match &registry(task.py()).awaited_by {
        Some((_, discard)) => discard.bind(task.py()).call1((future, task)).map(|_| ()),
        None => Ok(()),
    }
}
