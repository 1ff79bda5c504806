#include "tensors.h"

namespace graphnorms {

namespace {

constexpr int32_t kCpu = 1;
enum Code : uint8_t { kInt = 0, kUInt = 1, kFloating = 2, kBrain = 4 };

const DlExchange* exchange = nullptr;
PyTypeObject* tensor_type = nullptr;

int dtype_of(const DlTensor& t) {
    if (t.dtype.lanes != 1) return -1;
    switch (t.dtype.code) {
        case kInt:
            return t.dtype.bits == 64 ? kInt64 : t.dtype.bits == 32 ? kInt32 : t.dtype.bits == 16 ? kInt16 : -1;
        case kUInt: return t.dtype.bits == 8 ? kUInt8 : -1;
        case kBrain: return t.dtype.bits == 16 ? kBFloat16 : -1;
        case kFloating:
            return t.dtype.bits == 32 ? kFloat : t.dtype.bits == 64 ? kDouble : t.dtype.bits == 16 ? kFloat16 : -1;
        default: return -1;
    }
}

}  // namespace

void use_exchange(nb::handle type) {
    const nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
    auto* table = static_cast<DlExchange*>(
        PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")
            ? PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api") : nullptr);
    while (table && table->version.major != 1) table = table->previous;
    if (!table || !table->tensor_from_object)
        throw nb::import_error("this version of torch offers no exchange of tensors by DLPack 1");
    exchange = table;
    tensor_type = reinterpret_cast<PyTypeObject*>(type.ptr());
}

View::View(nb::handle object) : none_(object.is_none()) {
    if (none_ || !tensor_type || !PyObject_TypeCheck(object.ptr(), tensor_type)) return;
    if (exchange->tensor_from_object(object.ptr(), &tensor_) != 0) {
        PyErr_Clear();  // whoever asks explains what did not fit
        return;
    }
    if (tensor_.device.type == kCpu && has_memory(object)) dtype_ = dtype_of(tensor_);
}

View::View(float* data, int64_t rows, int64_t columns)
    : none_(!data), dtype_(data ? kFloat : -1), shape_{rows, columns}, strides_{columns, 1} {
    tensor_ = {data, {kCpu, 0}, 2, {kFloating, 32, 1}, shape_, strides_, 0};
}

View::View(float* data, int64_t length) : View(data, length, 1) { tensor_.dims = 1; }

View::View(const View& other) : none_(other.none_), dtype_(other.dtype_), tensor_(other.tensor_) {
    if (other.tensor_.shape != other.shape_) return;
    for (int d = 0; d < 2; ++d) {
        shape_[d] = other.shape_[d];
        strides_[d] = other.strides_[d];
    }
    tensor_.shape = shape_;
    tensor_.strides = strides_;
}

// Where the storage was freed, as FSDP does with parameters, a tensor begins at its offset in nothing,
// a low address. No heap of a 64-bit Linux is that low; where one is, the storage is asked, which
// costs about as much as this description.
bool View::has_memory(nb::handle object) const {
    constexpr uintptr_t kLow = UINTPTR_MAX >> 24;  // 1 TiB
    if (reinterpret_cast<uintptr_t>(data()) >= kLow) return true;
    for (int d = 0; d < dims(); ++d)
        if (size(d) == 0) return true;
    try {
        return nb::cast<uintptr_t>(object.attr("untyped_storage")().attr("data_ptr")()) != 0;
    } catch (nb::python_error&) {
        return false;
    }
}

bool View::contiguous() const {
    for (int d = 0; d < dims(); ++d)
        if (size(d) == 0) return true;
    int64_t expected = 1;
    for (int d = dims() - 1; d >= 0; --d) {
        if (size(d) != 1 && stride(d) != expected) return false;
        expected *= size(d);
    }
    return true;
}

bool View::is_vector(int dtype, int64_t length) const {
    return dtype_ == dtype && dims() == 1 && size(0) == length && contiguous();
}

bool View::is_matrix(int dtype, int64_t rows, int64_t columns) const {
    return dtype_ == dtype && dims() == 2 && size(0) == rows && size(1) == columns && contiguous();
}

bool View::has_whole_rows() const {
    return dims() == 2 && (contiguous() || (stride(1) == 1 && stride(0) >= size(1)));
}

bool View::is_like(const View& x) const {
    return dtype_ == x.dtype() && has_whole_rows() && size(0) == x.size(0) && size(1) == x.size(1);
}

bool View::is_index(int64_t length) const {
    return dtype_ == kInt64 && dims() == 1 && (length < 0 || size(0) == length) && contiguous();
}

}  // namespace graphnorms
