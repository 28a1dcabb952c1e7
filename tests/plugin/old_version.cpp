// A plugin library of another version, with TensorRT's interface written out by hand so that it compiles
// without TensorRT's headers: IPluginCreatorV3One, in the order of its virtual functions.
#include <cstdint>

struct InterfaceInfo {
    char const* kind;
    int32_t major, minor;
};
struct Fields {
    int32_t count;
    void const* fields;
};

struct Creator {
    virtual int32_t getAPILanguage() const noexcept { return 0; }
    virtual InterfaceInfo getInterfaceInfo() const noexcept { return {"PLUGIN CREATOR_V3ONE", 1, 0}; }
    virtual ~Creator() = default;
    virtual void* createPlugin(char const*, Fields const*, int32_t) noexcept { return nullptr; }
    virtual Fields const* getFieldNames() noexcept { return &none; }
    virtual char const* getPluginName() const noexcept { return "GroupAttention"; }
    virtual char const* getPluginVersion() const noexcept { return "0"; }
    virtual char const* getPluginNamespace() const noexcept { return "chronos"; }
    Fields none{0, nullptr};
};

extern "C" Creator* const* getCreators(int32_t& count) {
    static Creator creator;
    static Creator* const creators[] = {&creator};
    count = 1;
    return creators;
}

extern "C" void setLoggerFinder(void*) {}
