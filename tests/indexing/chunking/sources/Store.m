// Copyright 2024 The Authors.
#import <Foundation/Foundation.h>
#import "Store.h"

static NSString *const kLimit = @"10";

/// What can be read.
@protocol Source <NSObject>
- (NSString *)read:(NSString *)key;
@end

@interface Store : NSObject <Source>
@property (nonatomic, copy) NSString *path;
+ (instancetype)openAt:(NSString *)path;
- (NSString *)read:(NSString *)key;
@end

@implementation Store

/// Opens a store.
+ (instancetype)openAt:(NSString *)path {
    Store *store = [[Store alloc] init];
    store.path = path;
    return store;
}

- (NSString *)read:(NSString *)key orValue:(NSString *)value {
    if (self.entries[key]) {
        return self.entries[key];
    }
    return value;
}

@end

@implementation Store (Private)
- (void)load {
    NSLog(@"load");
}
@end

static void logEntry(NSString *key) {
    NSLog(@"%@", key);
}
