// The linear map as functions of tensors: everything is checked here before an address is used.
//
// As in module_normalize.cpp a call that does not fit is answered with false.
#include "module.h"
#include "tensors.h"

namespace graphnorms {

namespace {

bool is_features(const View& x) { return x.dtype() == kFloat && x.has_whole_rows(); }

bool fill(Linear& p, const View& x, const View& weight, int threads) {
    if (!is_features(x) || weight.dtype() != kFloat || weight.dims() != 2 ||
        !weight.is_matrix(kFloat, weight.size(0), x.size(1)))
        return false;
    p.rows = x.size(0);
    p.in = x.size(1);
    p.out = weight.size(0);
    p.x = x.as<const float>();
    p.x_stride = x.stride(0);
    p.weight = weight.as<const float>();
    p.threads = usable_threads(threads, p.rows * p.in * p.out / 32);
    return true;
}

}  // namespace

bool linear_forward(const View& x, const View& weight, const View& bias, int threads, const View& y) {
    LinearForward p;
    if (!fill(p, x, weight, threads) || (!bias.none() && !bias.is_vector(kFloat, p.out)) ||
        !y.is_matrix(kFloat, p.rows, p.out))
        return false;
    p.bias = bias.as<const float>();
    p.y = y.as<float>();
    nb::gil_scoped_release others_run;
    current.linear.forward(p);
    return true;
}

bool linear_backward(const View& grad_y, const View& x, const View& weight, int threads, const View& grad_x,
                     const View& grad_weight, const View& grad_bias) {
    LinearBackward p;
    if (!fill(p, x, weight, threads) || !is_features(grad_y) || grad_y.size(0) != p.rows ||
        grad_y.size(1) != p.out || (!grad_x.none() && !grad_x.is_matrix(kFloat, p.rows, p.in)) ||
        (!grad_weight.none() && !grad_weight.is_matrix(kFloat, p.out, p.in)) ||
        (!grad_bias.none() && !grad_bias.is_vector(kFloat, p.out)))
        return false;
    p.grad_y = grad_y.as<const float>();
    p.grad_y_stride = grad_y.stride(0);
    p.grad_x = grad_x.as<float>();
    p.grad_weight = grad_weight.as<float>();
    p.grad_bias = grad_bias.as<float>();
    nb::gil_scoped_release others_run;
    current.linear.backward(p);
    return true;
}

namespace {

bool forward(nb::handle x, nb::handle weight, nb::handle bias, int threads, nb::handle y) {
    return linear_forward(View(x), View(weight), View(bias), threads, View(y));
}

bool backward(nb::handle grad_y, nb::handle x, nb::handle weight, int threads, nb::handle grad_x,
              nb::handle grad_weight, nb::handle grad_bias) {
    return linear_backward(View(grad_y), View(x), View(weight), threads, View(grad_x), View(grad_weight),
                           View(grad_bias));
}

}  // namespace

void bind_linear(nb::module_& m) {
    m.def("linear_forward", forward, nb::arg("x"), nb::arg("weight"), nb::arg("bias").none(),
          nb::arg("threads"), nb::arg("y"));
    m.def("linear_backward", backward, nb::arg("grad_y"), nb::arg("x"), nb::arg("weight"),
          nb::arg("threads"), nb::arg("grad_x").none(), nb::arg("grad_weight").none(),
          nb::arg("grad_bias").none());
}

}  // namespace graphnorms
