-- Sends requests that were made beforehand: any of them by chance, or one with a number that none had yet.
-- Arguments: the file of the requests, each after its length; "any" or "numbered"; a number to begin with.

local requests = {}
local kind, number

function init(args)
    local file = assert(io.open(args[1], "rb"))
    kind, number = args[2], tonumber(args[3])
    math.randomseed(number)
    local length = file:read("*n")
    while length do
        file:read(1)
        requests[#requests + 1] = file:read(length)
        length = file:read("*n")
    end
end

function request()
    if kind == "any" then
        return requests[math.random(#requests)]
    end
    number = number + 1
    return requests[1] .. string.format("%012d", number) .. requests[2]
end

-- Microseconds, as wrk counts them.
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"p999":%d,"errors":%d}\n',
        summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
