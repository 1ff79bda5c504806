// Reads the rows of some graphs from the files of a packed set, straight into the tensors of a minibatch.
//
// A map costs a page fault for each page that was given back before; a call that reads costs less, and leaves no page
// with the process.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <vector>

#include "gather_table.h"
#include "module.h"
#include "tensors.h"

namespace graphnorms {

namespace {

constexpr int kParts = 32;             // buffers that a call fills at most
constexpr int64_t kThrownAway = 4096;  // bytes between two graphs that are cheaper to read than to call again

// A file with a row for each node or each edge, and the tensor that takes the rows of the chosen graphs.
struct Source {
    int file;
    int64_t offset;  // of the first row in the file
    int64_t row;     // bytes
    char* out;
};

// What one graph takes of a file: bytes, and where they go.
struct Range {
    int64_t begin, size;
    char* out;
};

// Ranges close to one another, which one call reads.
struct Run {
    int file;
    size_t source, first, count;  // out of the ranges
};

enum class Reading { kDone, kNotInCache, kFailed };

// What went wrong: an error of the system, or 0 where the file ends before its rows do.
struct Failure {
    std::atomic<bool> any{false};
    size_t source = 0;
    int error = 0;
    int64_t position = 0;

    void set(size_t where, int number, int64_t at) {
        if (any.exchange(true)) return;
        source = where;
        error = number;
        position = at;
    }
};

// Elsewhere than on Linux nothing tells what the cache holds, and a call fills one buffer.
#if defined(__linux__) && defined(RWF_NOWAIT)

ssize_t read_cached(int file, const iovec* parts, int count, int64_t position) {
    return preadv2(file, parts, count, position, RWF_NOWAIT);
}

ssize_t read_waiting(int file, const iovec* parts, int count, int64_t position) {
    return preadv(file, parts, count, position);
}

void announce(int file, int64_t begin, int64_t size) { posix_fadvise(file, begin, size, POSIX_FADV_WILLNEED); }

#else

ssize_t read_cached(int, const iovec*, int, int64_t) { return -1; }

ssize_t read_waiting(int file, const iovec* parts, int, int64_t position) {
    return pread(file, parts->iov_base, parts->iov_len, position);
}

void announce(int, int64_t, int64_t) {}

#endif

// Read a run; without `wait` only what the cache of the system holds.
Reading read_run(const Run& run, const Range* ranges, bool wait, Failure& failure) {
    char thrown_away[kThrownAway];
    iovec parts[2 * kParts];
    int count = 0;
    int64_t position = ranges->begin, end = position;
    for (const Range* each = ranges; each != ranges + run.count; ++each) {
        if (each->begin > end) parts[count++] = {thrown_away, size_t(each->begin - end)};
        char* const after = count ? static_cast<char*>(parts[count - 1].iov_base) + parts[count - 1].iov_len : nullptr;
        if (each->begin == end && after == each->out) parts[count - 1].iov_len += size_t(each->size);
        else parts[count++] = {each->out, size_t(each->size)};
        end = each->begin + each->size;
    }
    iovec* part = parts;
    while (position < end) {
        const ssize_t found = (wait ? read_waiting : read_cached)(run.file, part, count, position);
        // Some file systems do not know their cache; whatever else is wrong shows when it waits.
        if (!wait && found <= 0) {
            announce(run.file, position, end - position);
            return Reading::kNotInCache;
        }
        if (found < 0 && errno == EINTR) continue;
        if (found <= 0) {
            failure.set(run.source, found < 0 ? errno : 0, position);
            return Reading::kFailed;
        }
        position += found;
        size_t rest = size_t(found);
        while (count && rest >= part->iov_len) {
            rest -= part->iov_len;
            ++part;
            --count;
        }
        if (rest) {
            part->iov_base = static_cast<char*>(part->iov_base) + rest;
            part->iov_len -= rest;
        }
    }
    return Reading::kDone;
}

// The ranges of a source by where they begin, cut into runs.
void plan(const Source& source, size_t number, const Table& table, bool of_edges, std::vector<Range>& ranges,
          std::vector<Run>& runs) {
    const size_t begin = ranges.size();
    char* out = source.out;
    for (int64_t g = 0; g < table.graphs; ++g) {
        const int64_t size = (of_edges ? table.edges(g) : table.nodes(g)) * source.row;
        const int64_t first = (of_edges ? table.first_edge(g) : table.first_node(g)) * source.row;
        if (size) ranges.push_back({source.offset + first, size, out});
        out += size;
    }
    std::sort(ranges.begin() + std::ptrdiff_t(begin), ranges.end(),
              [](const Range& one, const Range& other) { return one.begin < other.begin; });
    for (size_t k = begin; k < ranges.size(); ++k) {
        const Range* before = k > begin ? &ranges[k - 1] : nullptr;
        const int64_t gap = before ? ranges[k].begin - (before->begin + before->size) : -1;
        if (gap >= 0 && gap <= kThrownAway && runs.back().count < kParts) ++runs.back().count;
        else runs.push_back({source.file, number, k, 1});
    }
}

void read(const std::vector<Range>& ranges, const std::vector<Run>& runs, int threads, Failure& failure) {
    // What the cache holds comes first. Of the rest the disk knows all by then, before anything waits for it.
    std::vector<char> left(runs.size(), 0);
    int64_t waiting = 0;
    const int64_t count = int64_t(runs.size());
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads) if (threads > 1) reduction(+ : waiting)
    for (int64_t k = 0; k < count; ++k) {
        const Run& run = runs[size_t(k)];
        left[size_t(k)] = read_run(run, &ranges[run.first], false, failure) == Reading::kNotInCache;
        waiting += left[size_t(k)];
    }
    if (!waiting) return;
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads) if (threads > 1)
    for (int64_t k = 0; k < count; ++k) {
        const Run& run = runs[size_t(k)];
        if (left[size_t(k)] && !failure.any) read_run(run, &ranges[run.first], true, failure);
    }
}

// Bytes of a row of a contiguous tensor that has this many, or -1.
int64_t row_bytes(const View& out, int64_t rows) {
    if (out.bytes() <= 0 || out.dims() < 1 || out.size(0) != rows || !out.contiguous()) return -1;
    int64_t bytes = out.bytes();
    for (int d = 1; d < out.dims(); ++d) bytes *= out.size(d);
    return bytes;
}

// None where the table or a tensor does not fit; else the number of the file that failed, or -1, with the error of the
// system, or 0 where the file has ended, and the position.
nb::object read_rows(nb::handle table_, int64_t num_nodes, int64_t num_edges, const nb::list& sources, int threads) {
    const View view(table_);
    if (!is_table(view)) return nb::none();
    const Table table{view.as<const int64_t>(), view.size(1)};
    const Sizes sizes = sizes_of(table, num_nodes, num_edges);
    std::vector<Range> ranges;
    std::vector<Run> runs;
    int64_t numbers = 0;
    for (size_t k = 0; k < sources.size(); ++k) {
        const nb::tuple given = nb::cast<nb::tuple>(sources[k]);
        const View out(item(given, 2));
        const bool of_edges = nb::cast<bool>(item(given, 3));
        const int64_t rows = of_edges ? sizes.edges : sizes.nodes, all = of_edges ? num_edges : num_nodes;
        Source source{nb::cast<int>(item(given, 0)), nb::cast<int64_t>(item(given, 1)), row_bytes(out, rows),
                      out.as<char>()};
        if (source.row < 0 || source.offset < 0 ||
            (source.row && all > (std::numeric_limits<int64_t>::max() - source.offset) / source.row))
            return nb::none();
        plan(source, k, table, of_edges, ranges, runs);
        numbers += rows * source.row / int64_t(sizeof(float));
    }
    Failure failure;
    {
        nb::gil_scoped_release others_run;
        read(ranges, runs, usable_threads(threads, numbers), failure);
    }
    if (!failure.any) return nb::make_tuple(-1, 0, 0);
    return nb::make_tuple(failure.source, failure.error, failure.position);
}

}  // namespace

void bind_read(nb::module_& m) {
    m.def("read_rows", read_rows, nb::arg("table"), nb::arg("num_nodes"), nb::arg("num_edges"), nb::arg("sources"),
          nb::arg("threads"));
}

}  // namespace graphnorms
