using System;
using System.IO;
using Xunit;

namespace Example.Store
{
    /// <summary>A store of entries on disk.</summary>
    public class Store : ISource
    {
        public string Path { get; }

        public Store(string path)
        {
            Path = path;
        }

        public string Read(string key)
        {
            return key;
        }

        void Load()
        {
            File.ReadAllText(Path);
        }
    }

    internal class Entry
    {
        public string Show() => "entry";
    }

    public class StoreTests
    {
        [Fact]
        public void Reads()
        {
            Assert.Null(new Store("x").Read("a"));
        }
    }
}
