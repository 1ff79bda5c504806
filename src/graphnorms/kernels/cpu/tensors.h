// Tensors of torch as plain addresses and sizes, without a header of torch.
//
// torch.Tensor offers the exchange API of DLPack (1.3, https://dmlc.github.io/dlpack): a table of
// C functions, one of which describes a tensor in some tens of nanoseconds. The layouts below are
// those of that standard.
#pragma once
#include <nanobind/nanobind.h>

#include <cstdint>

#include "dtype.h"

namespace nb = nanobind;

namespace graphnorms {

struct DlVersion {
    uint32_t major, minor;
};

struct DlTensor {
    void* data;
    struct {
        int32_t type, id;
    } device;
    int32_t dims;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t* shape;
    int64_t* strides;
    uint64_t byte_offset;
};

struct DlExchange {
    DlVersion version;
    DlExchange* previous;
    int (*allocate)(DlTensor*, void**, void*, void (*)(void*, const char*, const char*));
    int (*managed_from_object)(void*, void**);
    int (*object_from_managed)(void*, void**);
    int (*tensor_from_object)(void*, DlTensor*);
    int (*current_stream)(int32_t, int32_t, void**);
};

// Take over the table of a type of tensors, from its `__dlpack_c_exchange_api__`.
void use_exchange(nb::handle type);

// A tensor on the CPU, or `None`. What cannot be described, has no memory, or is no tensor, does not
// fit anything.
class View {
   public:
    explicit View(nb::handle object);
    // A contiguous matrix, or vector, of float32 at an address; at none it is `None`.
    View(float* data, int64_t rows, int64_t columns);
    View(float* data, int64_t length);
    View(const View& other);
    View& operator=(const View&) = delete;

    bool none() const { return none_; }
    // As kDtypes counts them, or -1.
    int dtype() const { return dtype_; }
    // Of an entry; 0 where the dtype is not known.
    int64_t bytes() const { return dtype_ < 0 ? 0 : tensor_.dtype.bits / 8; }
    int dims() const { return tensor_.dims; }
    int64_t size(int d) const { return tensor_.shape[d]; }
    int64_t stride(int d) const { return tensor_.strides[d]; }
    void* data() const { return none_ ? nullptr : static_cast<char*>(tensor_.data) + tensor_.byte_offset; }
    template <class T> T* as() const { return static_cast<T*>(data()); }

    bool is_vector(int dtype, int64_t length) const;
    bool is_matrix(int dtype, int64_t rows, int64_t columns) const;
    bool contiguous() const;
    // Whether the entries of a row lie side by side; the rows may be apart.
    bool has_whole_rows() const;

    // Features as x has them.
    bool is_like(const View& x) const;

    // An int64 vector without gaps, of any length where none is given.
    bool is_index(int64_t length = -1) const;

   private:
    bool has_memory(nb::handle object) const;

    bool none_;
    int dtype_ = -1;  // nothing that was not read has a dtype
    DlTensor tensor_{};
    int64_t shape_[2], strides_[2];  // of plain memory
};

// Beside the dtypes of the kernels.
constexpr int kInt64 = 100, kInt32 = 101, kInt16 = 102, kUInt8 = 103;

// In what statistics, parameters and sums are for features of a dtype.
constexpr int accumulation(int dtype) { return dtype == kDouble ? kDouble : kFloat; }

}  // namespace graphnorms
